# `cmake --install BUILD [--prefix DIR]`: the programs, their manual, and what an operator starts from.
include(GNUInstallDirs)

install(TARGETS raftogram raftogramctl RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

set(DOC_FILES README.md ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md SECURITY.md)
install(FILES ${DOC_FILES} DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY conf/three-hosts conf/local DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
install(FILES conf/config.yaml.dist conf/prometheus-alerts.yml conf/grafana-dashboard.json
        DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)

install(DIRECTORY proto/ DESTINATION ${CMAKE_INSTALL_DATADIR}/raftogram/proto
        FILES_MATCHING PATTERN "*.proto")
# The page is built into the daemon. These files are for http.web_root, to change it without a build.
install(DIRECTORY web DESTINATION ${CMAKE_INSTALL_DATADIR}/raftogram)

# The unit names the program by its path below the prefix, which --prefix may set at the last moment.
install(CODE "
  file(READ \"${CMAKE_SOURCE_DIR}/conf/raftogram.service\" unit)
  string(REPLACE /usr/local/ \"\${CMAKE_INSTALL_PREFIX}/\" unit \"\${unit}\")
  set(path \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/systemd/system/raftogram.service\")
  message(STATUS \"Installing: \${path}\")
  file(WRITE \"\${path}\" \"\${unit}\")")

install(FILES ${CMAKE_BINARY_DIR}/ctl/raftogramctl.bash
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        RENAME raftogramctl)
install(FILES ${CMAKE_BINARY_DIR}/ctl/raftogramctl.zsh
        DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions
        RENAME _raftogramctl)
install(FILES ${CMAKE_BINARY_DIR}/ctl/raftogramctl.fish
        DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)

install(FILES ${CMAKE_BINARY_DIR}/man/raftogram.1 ${CMAKE_BINARY_DIR}/man/raftogramctl.1
        DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${CMAKE_BINARY_DIR}/man/raftogram.yaml.5 DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)
