# What makes a fault in our C code hard to exploit; tests/integration/check_hardening.py reads it from
# the built programs. The target `raftogram_hardening` carries the flags.
#
# Not with sanitizers: their runtimes replace what FORTIFY checks, and they find more than these do.
include(CheckCCompilerFlag)
include(CheckLinkerFlag)
include(CheckPIESupported)

# Positions that are independent, for programs as for objects (CMAKE_POSITION_INDEPENDENT_CODE).
check_pie_supported(LANGUAGES C)

add_library(raftogram_hardening INTERFACE)

function(harden_compiling flag name)
  check_c_compiler_flag(${flag} HAS_${name})
  if(HAS_${name})
    target_compile_options(raftogram_hardening INTERFACE ${flag})
  endif()
endfunction()

function(harden_linking flag name)
  check_linker_flag(C ${flag} HAS_${name})
  if(HAS_${name})
    target_link_options(raftogram_hardening INTERFACE ${flag})
  endif()
endfunction()

if(NOT RAFTOGRAM_SANITIZE)
  harden_compiling(-fstack-protector-strong STACK_PROTECTOR_STRONG)
  harden_compiling(-fstack-clash-protection STACK_CLASH_PROTECTION)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
    harden_compiling(-fcf-protection=full CF_PROTECTION)
    # Debian's start files bear no mark, and one unmarked object unmarks the program. Its shadow stack
    # is marked all the same: they return as they are called. Its indirect branches are not: they do
    # not land on endbr64 there.
    harden_linking(-Wl,-z,shstk Z_SHSTK)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    harden_compiling(-mbranch-protection=standard BRANCH_PROTECTION)
  endif()
  # glibc wants optimisation for it, and warns without.
  target_compile_options(raftogram_hardening INTERFACE
                         $<$<CONFIG:Release,RelWithDebInfo,MinSizeRel>:-U_FORTIFY_SOURCE>
                         $<$<CONFIG:Release,RelWithDebInfo,MinSizeRel>:-D_FORTIFY_SOURCE=2>)
  harden_linking(-Wl,-z,relro Z_RELRO)
  harden_linking(-Wl,-z,now Z_NOW)
  harden_linking(-Wl,-z,noexecstack Z_NOEXECSTACK)
endif()
