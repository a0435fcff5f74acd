/*
 * Secrets out of what is kept and shown of workers: command lines, environments, lines of logs. A secret is known by the
 * name it is given under (HF_TOKEN=…, --api-key …, "Authorization: …"), by its form (a bearer token, the userinfo of a URL,
 * a private key, the tokens of some services), or because the same text was a secret elsewhere (`known`). What looks like
 * none of these is not found: this makes files safer to hand on, it does not make a log free of secrets.
 * Rather too much is taken out than too little: "--ssl-key PATH" loses its path.
 */
#ifndef LIFECYCLE_REDACT_H
#define LIFECYCLE_REDACT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/strbuf.h"
#include "base/string_list.h"

#define REDACTED         "[redacted]"
#define REDACT_KNOWN_MIN 6 /* bytes: shorter ones stand for too many other things */
#define REDACT_KNOWN_MAX 64

enum redact_name {
    REDACT_NAME_PLAIN,
    REDACT_NAME_COUNT, /* "max-tokens": a secret, unless its value is a number */
    REDACT_NAME_SECRET,
    REDACT_NAME_TYPED, /* "password", "pin": a secret, also where its value is a short number */
};
/* What the name of a variable, an option (without dashes) or a field says about its value. */
enum redact_name redact_name_kind(const char *name, size_t n);

/* Adds the text without its secrets. known may be NULL. */
void redact_text(const char *text, size_t n, const struct string_list *known, struct strbuf *out);
/*
 * The same for a command line and an environment ("NAME=value"), both NULL-terminated, cut to what a bundle holds:
 * POOL_CRASH_TEXT_MAX bytes of each text and POOL_CRASH_COMMAND_MAX_BYTES of each list, the rest as "… N more". A text that
 * is a secret in one place is taken out everywhere; these are added to known. false: no memory.
 */
bool redact_command(char *const *argv, char *const *environment, struct string_list *known,
                    struct string_list *ret_argv, struct string_list *ret_environment);
/* The same for a command line that is shown as it is, not cut. Secrets of the environment are taken out of it. */
bool redact_arguments(char *const *argv, char *const *environment, struct string_list *ret_argv);
/* Adds secrets to those that are known: the values of secret options, or the value of a variable that is one. */
void redact_learn_arguments(char *const *argv, size_t n, struct string_list *known);
void redact_learn(const char *name, const char *value, struct string_list *known);

#endif
