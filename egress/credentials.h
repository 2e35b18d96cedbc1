/* AWS credentials: environment, then shared files with profiles; the rest of the SDK chain comes behind the same seam.
 *
 * Files may block, so loading happens on the control (helper) thread; workers read the current generation by pointer.
 * Secrets are never logged and are wiped when a generation is freed. Sources and order: docs of the AWS SDKs,
 * "Standardized credential providers". */
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
        int64_t expires_ms;       /* INT64_MAX: never */
        char source[256];         /* "environment", "profile mail in /root/.aws/credentials": for the log */
};

/* ERR_CREDENTIALS with a sentence that lists what was looked at. A source that is configured but broken is an error,
 * not a fall-through. */
enum err_code credentials_load(const struct credentials_options *options, struct credentials *ret_credentials,
                               struct err *reterr);
/* Overwrites the secrets. */
void credentials_wipe(struct credentials *credentials);
/* Region by the SDK's order: AWS_REGION, AWS_DEFAULT_REGION, the profile's; "" when none. */
void credentials_region(const struct credentials_options *options, char ret_region[64]);

#endif
