/* Fills the templates: each script has the rows of both tables as quoted text, and reads them when
 * it completes a word. */
#include "completion.h"

#include "completion_scripts.h"
#include "flags.h"

#include <stdio.h>
#include <string.h>

#define NOTHING "-" /* an empty column */

/* Prints text inside single quotes: a quote ends them and begins them again in every shell. */
static void print_quoted(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            fputs("'\\''", stdout);
        } else {
            putchar(*text);
        }
    }
}

/* Rows are columns with a space between them. Only the summary may have spaces itself. */
static void print_verbs(const struct verb *const *verbs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *operand = verbs[i]->first_operand;
        printf("%s %s ", verbs[i]->name, operand == NULL ? NOTHING : operand);
        print_quoted(verbs[i]->summary);
        putchar('\n');
    }
}

/* Prints the verbs that take a flag, with commas between them. */
static void print_takers(const struct flag *flag, const struct verb *const *verbs, size_t count)
{
    const char *comma = "";
    for (size_t i = 0; i < count; i++) {
        if ((verbs[i]->options & flag->option) != 0) {
            printf("%s%s", comma, verbs[i]->name);
            comma = ",";
        }
    }
}

static void print_flags(const struct verb *const *verbs, size_t count)
{
    for (size_t i = 0; i < FLAGS_COUNT; i++) {
        const struct flag *flag = &flags[i];
        printf("%s%s%s ", flag->name, flag->alias == NULL ? "" : ",",
               flag->alias == NULL ? "" : flag->alias);
        if (flag->option != 0) {
            print_takers(flag, verbs, count);
        } else {
            /* -version asks for no verb. */
            fputs(i == FLAG_VERSION ? NOTHING : "*", stdout);
        }
        printf(" %s ", flag->value == NULL ? NOTHING : flag->value);
        print_quoted(flag->summary);
        putchar('\n');
    }
}

static bool is_line(const char *line, size_t size, const char *text)
{
    return size == strlen(text) && memcmp(line, text, size) == 0;
}

static void print_script(const char *text, const struct verb *const *verbs, size_t count)
{
    while (*text != '\0') {
        size_t size = strcspn(text, "\n");
        if (is_line(text, size, "@VERBS@")) {
            print_verbs(verbs, count);
        } else if (is_line(text, size, "@FLAGS@")) {
            print_flags(verbs, count);
        } else {
            fwrite(text, 1, size, stdout);
            putchar('\n');
        }
        text += size + (text[size] == '\n');
    }
}

bool completion_print(const char *shell, const struct verb *const *verbs, size_t count)
{
    for (const struct completion_script *script = completion_scripts; script->shell != NULL;
         script++) {
        if (strcmp(script->shell, shell) == 0) {
            print_script(script->text, verbs, count);
            return true;
        }
    }
    return false;
}
