/* AWS credentials: environment, then shared files with profiles; the rest of the SDK chain comes behind the same seam.
 *
 * Files may hang, so loading happens on a thread of its own (router/credentials.c); workers read the current generation
 * by pointer. A FIFO or a device in a file's place is refused, not waited for.
 * Secrets are never logged and are wiped when a generation is freed. Sources and order: docs of the AWS SDKs,
 * "Standardized credential providers".
 *
 * The files' format, where SDKs differ the stricter reading:
 *   [default], [profile NAME] in the config file, [NAME] in the credentials file; NAME may be quoted. Other sections
 * are skipped. `key = value`, keys in any case; the first "=" separates. A line whose first character is # or ; is a
 *   comment, and so is the rest of a line from a # or ; behind white space. Indented lines are nested settings of the
 *   key above and are skipped. UTF-8 byte order mark and CRLF are accepted. A section or a key that appears twice in
 *   the chosen profile, a line without "=", and a key before any section are errors with file and line. */
#ifndef SENDRING_EGRESS_CREDENTIALS_H
#define SENDRING_EGRESS_CREDENTIALS_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct credentials_options {
        const char *profile; /* "" : AWS_PROFILE, else "default". An explicit one turns the environment's keys off */
        const char *shared_credentials_file; /* "" : AWS_SHARED_CREDENTIALS_FILE, else ~/.aws/credentials */
        const char *config_file;             /* "" : AWS_CONFIG_FILE, else ~/.aws/config */
};

/* One immutable generation. */
struct credentials {
        char access_key_id[160];
        char secret_access_key[256];
        char session_token[4096]; /* "" : none */
        char account_id[13];      /* "" : unknown */
        char region[64];          /* of the profile, "" : none */
        char zero[3];             /* no padding anywhere: the router compares bytes */
        int64_t expires_ms;       /* INT64_MAX: never */
        uint64_t number;          /* from 1, by who puts them in force: no other generation has it. 0: not in force */
        char source[256];         /* "environment", "profile mail in /root/.aws/credentials": for the log */
        char warning[384]; /* "" : none; else a sentence to log: the file with the secret is open to other users */
};

/* ERR_CREDENTIALS with a sentence that lists what was looked at. A source that is configured but broken (half a key
 * pair, a malformed file, a profile that wants role_arn, SSO or credential_process) is an error, not a fall-through;
 * the same sentence names file and line. *ret_credentials is untouched on failure. */
enum err_code credentials_load(const struct credentials_options *options, struct credentials *ret_credentials,
                               struct err *reterr);
/* Overwrites the secrets. */
void credentials_wipe(struct credentials *credentials);
/* Region by the SDK's order: AWS_REGION, AWS_DEFAULT_REGION, the profile's; "" when none. */
void credentials_region(const struct credentials_options *options, char ret_region[64]);

/* One file's view of one profile, for credentials_load() and the fuzz target. Slices point into `text`; lines count
 * from 1, 0: absent. */
enum credentials_key {
        CREDENTIALS_KEY_ACCESS_KEY_ID,
        CREDENTIALS_KEY_SECRET_ACCESS_KEY,
        CREDENTIALS_KEY_SESSION_TOKEN,
        CREDENTIALS_KEY_ACCOUNT_ID,
        CREDENTIALS_KEY_REGION,
        CREDENTIALS_KEY_ROLE_ARN,
        CREDENTIALS_KEY_WEB_IDENTITY_TOKEN_FILE,
        CREDENTIALS_KEY_SSO_SESSION,
        CREDENTIALS_KEY_SSO_START_URL,
        CREDENTIALS_KEY_LOGIN_SESSION,
        CREDENTIALS_KEY_CREDENTIAL_PROCESS,
        CREDENTIALS_KEYS_COUNT,
};
struct credentials_profile {
        uint32_t line; /* of the section's header, 0: the file has no such profile */
        struct {
                struct slice value;
                uint32_t line;
        } keys[CREDENTIALS_KEYS_COUNT];
};
/* `is_config`: sections are [default] and [profile NAME]; else [NAME]. ERR_SYNTAX or ERR_DUPLICATE with "PATH:LINE:
 * ...".
 */
enum err_code credentials_profile_read(struct slice text, const char *path, bool is_config, struct slice profile,
                                       struct credentials_profile *ret_profile, struct err *reterr);

#endif
