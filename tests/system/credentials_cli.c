/* Prints what credentials_load() makes of the environment, for credentials_botocore.py: one JSON object. The profile is
 * the first argument ("": none given). */
#include "egress/credentials.h"

#include <jansson.h>
#include <stdio.h>

int main(int argc, char **argv)
{
        struct credentials_options options = {
                .profile = argc > 1 ? argv[1] : "", .shared_credentials_file = "", .config_file = ""};
        static struct credentials credentials;
        struct err err = {0};
        char region[64];
        enum err_code code = credentials_load(&options, &credentials, &err);
        credentials_region(&options, region);
        json_t *output =
                code == ERR_OK
                        ? json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "access_key", credentials.access_key_id, "secret_key",
                                    credentials.secret_access_key, "token", credentials.session_token, "account_id",
                                    credentials.account_id, "region", region, "source", credentials.source)
                        : json_pack("{s:s}", "error", err.text);
        if (output == NULL || json_dumpf(output, stdout, JSON_COMPACT) != 0)
                return 1;
        json_decref(output);
        credentials_wipe(&credentials);
        return 0;
}
