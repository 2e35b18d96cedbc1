#include "base/clock.h"
#include "egress/credentials.h"
#include "tests/support/guard_page.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static char home[64];

/* Every test starts without AWS variables and with an empty home directory of its own. */
static void start(void)
{
        for (size_t i = 0; environ[i] != NULL;) {
                char name[128];
                size_t len = strcspn(environ[i], "=");
                if (strncmp(environ[i], "AWS_", 4) != 0 || len >= sizeof(name)) {
                        i++;
                        continue;
                }
                memcpy(name, environ[i], len);
                name[len] = '\0';
                cr_assert_eq(unsetenv(name), 0);
        }
        (void)snprintf(home, sizeof(home), "/tmp/sendring-credentials-XXXXXX");
        cr_assert_not_null(mkdtemp(home));
        cr_assert_eq(setenv("HOME", home, 1), 0);
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/.aws", home);
        cr_assert_eq(mkdir(path, 0700), 0);
}

static void stop(void)
{
        static const char *names[] = {"/.aws/credentials", "/.aws/config", "/other", "/.aws", ""};
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                char path[128];
                (void)snprintf(path, sizeof(path), "%s%s", home, names[i]);
                (void)remove(path); /* not every test makes each */
        }
}

TestSuite(credentials, .timeout = 20, .init = start, .fini = stop);

static void put(const char *name, const char *text, unsigned mode)
{
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", home, name);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        cr_assert_geq(fd, 0);
        cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
        cr_assert_eq(fchmod(fd, mode), 0);
        cr_assert_eq(close(fd), 0);
}

static const struct credentials_options no_options = {.profile = "", .shared_credentials_file = "", .config_file = ""};
static const struct credentials_options profile_a = {.profile = "a", .shared_credentials_file = "", .config_file = ""};

static struct credentials loaded;
static struct err why;

static void load_ok(const struct credentials_options *options, const char *id, const char *source)
{
        enum err_code code = credentials_load(options, &loaded, &why);
        cr_assert_eq(code, ERR_OK, "%s", why.text);
        cr_assert_str_eq(loaded.access_key_id, id);
        cr_assert_not_null(strstr(loaded.source, source), "%s", loaded.source);
}

static void load_fails(const struct credentials_options *options, const char *sentence)
{
        struct credentials untouched = {.access_key_id = "before"};
        why.text[0] = '\0';
        cr_assert_eq(credentials_load(options, &untouched, &why), ERR_CREDENTIALS);
        cr_assert_eq(why.code, ERR_CREDENTIALS);
        cr_assert_not_null(strstr(why.text, sentence), "%s", why.text);
        cr_assert_str_eq(untouched.access_key_id, "before");
        cr_assert_null(strstr(why.text, "HIDDEN"), "a secret in: %s", why.text);
}

/* ---------------------------------------------------------------------------------------------- order of sources */

Test(credentials, environment_wins_over_files)
{
        put(".aws/credentials", "[default]\naws_access_key_id=FILE\naws_secret_access_key=HIDDEN\nregion=eu-west-1\n",
            0600);
        setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
        setenv("AWS_SECRET_ACCESS_KEY", "HIDDENENV", 1);
        load_ok(&no_options, "ENV", "environment");
        cr_assert_str_eq(loaded.secret_access_key, "HIDDENENV");
        cr_assert_str_eq(loaded.session_token, "");
        cr_assert_str_eq(loaded.region, "eu-west-1");
        cr_assert_str_eq(loaded.account_id, "");
        cr_assert_str_eq(loaded.warning, "");
        cr_assert_eq(loaded.expires_ms, INT64_MAX);
}

Test(credentials, nobody_is_waited_for_behind_a_fifo)
{
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/.aws/credentials", home);
        cr_assert_eq(mkfifo(path, 0600), 0);
        load_fails(&no_options, "is no regular file");
}

Test(credentials, every_environment_variable_is_read)
{
        setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
        setenv("AWS_SECRET_ACCESS_KEY", "HIDDENENV", 1);
        setenv("AWS_SECURITY_TOKEN", "OLD", 1);
        setenv("AWS_ACCOUNT_ID", "123456789012", 1);
        setenv("AWS_CREDENTIAL_EXPIRATION", "2026-01-02T03:04:05Z", 1);
        load_ok(&no_options, "ENV", "environment");
        cr_assert_str_eq(loaded.session_token, "OLD");
        cr_assert_str_eq(loaded.account_id, "123456789012");
        cr_assert_eq(loaded.expires_ms, INT64_C(1767323045000));
        setenv("AWS_SESSION_TOKEN", "NEW", 1);
        load_ok(&no_options, "ENV", "environment");
        cr_assert_str_eq(loaded.session_token, "NEW");
        setenv("AWS_CREDENTIAL_EXPIRATION", "soon", 1);
        load_fails(&no_options, "AWS_CREDENTIAL_EXPIRATION");
        unsetenv("AWS_CREDENTIAL_EXPIRATION");
        setenv("AWS_ACCOUNT_ID", "12345", 1);
        load_fails(&no_options, "12 digits");
}

Test(credentials, explicit_profile_turns_environment_keys_off)
{
        setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
        setenv("AWS_SECRET_ACCESS_KEY", "HIDDENENV", 1);
        put(".aws/credentials", "[a]\naws_access_key_id=A\naws_secret_access_key=HIDDEN\n", 0600);
        load_ok(&profile_a, "A", "profile a in ");
        /* A profile chosen by AWS_PROFILE is not explicit. */
        setenv("AWS_PROFILE", "a", 1);
        load_ok(&no_options, "ENV", "environment");
}

Test(credentials, profile_from_environment_variable)
{
        put(".aws/credentials",
            "[default]\naws_access_key_id=D\naws_secret_access_key=HIDDEN\n[a]\naws_access_key_id=A\n"
            "aws_secret_access_key=HIDDEN\naws_session_token=T\n",
            0600);
        load_ok(&no_options, "D", "profile default");
        setenv("AWS_PROFILE", "a", 1);
        load_ok(&no_options, "A", "profile a");
        cr_assert_str_eq(loaded.session_token, "T");
        setenv("AWS_PROFILE", "b", 1);
        load_fails(&no_options, "profile b, chosen by AWS_PROFILE, is neither in");
        setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
        setenv("AWS_SECRET_ACCESS_KEY", "HIDDENENV", 1);
        load_fails(&no_options, "profile b, chosen by AWS_PROFILE, is neither in");
}

Test(credentials, credentials_file_wins_over_config_for_keys)
{
        put(".aws/credentials", "[a]\naws_access_key_id=CREDENTIALS\naws_secret_access_key=HIDDEN\n", 0600);
        put(".aws/config",
            "[profile a]\naws_access_key_id=CONFIG\naws_secret_access_key=HIDDEN\nregion=us-west-2\n"
            "aws_account_id=123456789012\n",
            0600);
        load_ok(&profile_a, "CREDENTIALS", "/.aws/credentials");
        cr_assert_str_eq(loaded.region, "us-west-2");
}

Test(credentials, keys_in_the_config_file_are_the_last_static_source)
{
        put(".aws/config", "[profile a]\naws_access_key_id = CONFIG\naws_secret_access_key = HIDDEN\n", 0600);
        load_ok(&profile_a, "CONFIG", "/.aws/config");
        put(".aws/config",
            "[profile a]\naws_access_key_id = CONFIG\naws_secret_access_key = HIDDEN\ncredential_process = x\n", 0600);
        load_fails(&profile_a, "config:4: profile a uses credential_process, which this version does not support yet");
}

Test(credentials, paths_from_options_and_variables)
{
        put("other", "[default]\naws_access_key_id=OTHER\naws_secret_access_key=HIDDEN\n", 0600);
        struct credentials_options options = no_options;
        options.shared_credentials_file = "~/other";
        load_ok(&options, "OTHER", "/other");
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/other", home);
        setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
        load_ok(&no_options, "OTHER", "/other");
        unsetenv("AWS_SHARED_CREDENTIALS_FILE");
        options = no_options;
        options.config_file = path;
        load_ok(&options, "OTHER", "/other");
        options.config_file = "/nonexistent/config";
        load_fails(&options, "cannot open /nonexistent/config");
        setenv("AWS_CONFIG_FILE", "/nonexistent/config", 1);
        load_fails(&no_options, "(no such file)");
}

Test(credentials, nothing_configured_lists_what_was_looked_at)
{
        load_fails(&no_options, "no AWS credentials: looked at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (not set), "
                                "profile default in ");
        put(".aws/credentials", "[other]\n", 0600);
        put(".aws/config", "[default]\nregion = us-east-1\n", 0600);
        load_fails(&no_options, "credentials (not there)");
        load_fails(&no_options, "config (has no keys)");
        setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/x", 1);
        load_fails(&no_options, "container");
}

/* ---------------------------------------------------------------------------------------------- broken sources */

Test(credentials, half_a_pair_is_an_error)
{
        setenv("AWS_ACCESS_KEY_ID", "ENV", 1);
        load_fails(&no_options, "AWS_SECRET_ACCESS_KEY");
        unsetenv("AWS_ACCESS_KEY_ID");
        setenv("AWS_SECRET_ACCESS_KEY", "x", 1);
        load_fails(&no_options, "AWS_ACCESS_KEY_ID");
        unsetenv("AWS_SECRET_ACCESS_KEY");
        put(".aws/credentials", "[a]\n# comment\naws_access_key_id=A\n", 0600);
        put(".aws/config", "[profile a]\naws_access_key_id=A\naws_secret_access_key=HIDDEN\n", 0600);
        load_fails(&profile_a, "credentials:3: profile a has aws_access_key_id but no aws_secret_access_key");
        put(".aws/credentials", "[a]\naws_secret_access_key=HIDDEN\n", 0600);
        load_fails(&profile_a, "credentials:2: profile a has aws_secret_access_key but no aws_access_key_id");
}

Test(credentials, sources_of_later_versions_are_named)
{
        static const char *const keys[] = {"role_arn", "web_identity_token_file", "sso_session", "sso_start_url"};
        char text[256], sentence[128];
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
                (void)snprintf(text, sizeof(text), "[profile a]\n%s = x\n", keys[i]);
                put(".aws/config", text, 0600);
                (void)snprintf(sentence, sizeof(sentence),
                               "config:2: profile a uses %s, which this version does not support yet", keys[i]);
                load_fails(&profile_a, sentence);
                /* Static keys in the credentials file do not hide it. */
                put(".aws/credentials", "[a]\naws_access_key_id=A\naws_secret_access_key=HIDDEN\n", 0600);
                load_fails(&profile_a, sentence);
                put(".aws/credentials", "", 0600);
        }
        put(".aws/config", "[profile a]\nlogin_session = x\n", 0600);
        load_fails(&profile_a, "login_session");
        setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/x", 1);
        load_fails(&no_options, "AWS_WEB_IDENTITY_TOKEN_FILE");
}

Test(credentials, unusable_values_are_errors)
{
        static const struct {
                const char *text, *sentence;
        } cases[] = {
                {"[a]\naws_access_key_id=\naws_secret_access_key=HIDDEN\n",
                 "credentials:2: aws_access_key_id is empty"},
                {"[a]\naws_access_key_id=A\naws_secret_access_key= # HIDDEN\n",
                 "credentials:3: aws_secret_access_key is empty"},
                {"[a]\naws_access_key_id=A B\naws_secret_access_key=HIDDEN\n",
                 "credentials:2: aws_access_key_id holds"},
                {"[a]\naws_access_key_id=A\naws_secret_access_key=SECR\xc3\x84T\n", "credentials:3"},
                {"[a]\naws_access_key_id=A\naws_secret_access_key=HIDDEN\nregion=us east\n",
                 "credentials:4: \"us east\""},
                {"[a]\naws_access_key_id=A\naws_secret_access_key=HIDDEN\nregion=evil.example/\n", "credentials:4"},
                {"[a]\naws_access_key_id=A\naws_secret_access_key=HIDDEN\naws_account_id=1\n",
                 "credentials:4: an AWS acc"},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                put(".aws/credentials", cases[i].text, 0600);
                load_fails(&profile_a, cases[i].sentence);
        }
        char text[600] = "[a]\naws_secret_access_key=HIDDEN\naws_access_key_id=";
        size_t used = strlen(text);
        memset(text + used, 'A', 160);
        put(".aws/credentials", text, 0600);
        load_fails(&profile_a, "credentials:3: aws_access_key_id is longer than 159 bytes");
        text[used + 159] = '\0';
        put(".aws/credentials", text, 0600);
        load_ok(&profile_a, text + used, "profile a");
}

Test(credentials, unreadable_files_are_errors)
{
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/.aws/credentials", home);
        cr_assert_eq(mkdir(path, 0700), 0);
        load_fails(&no_options, "credentials is no regular file");
        cr_assert_eq(rmdir(path), 0);
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        cr_assert_geq(fd, 0);
        cr_assert_eq(ftruncate(fd, (1 << 20) + 1), 0);
        cr_assert_eq(close(fd), 0);
        load_fails(&no_options, "larger than");
}

Test(credentials, file_open_to_others_is_warned_about)
{
        static const char text[] = "[a]\naws_access_key_id=A\naws_secret_access_key=HIDDEN\n";
        static const struct {
                unsigned mode;
                bool warned;
        } modes[] = {{0600, false}, {0400, false}, {0640, true}, {0604, true}, {0644, true}};
        for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
                put(".aws/credentials", text, modes[i].mode);
                load_ok(&profile_a, "A", "profile a");
                cr_assert_eq(loaded.warning[0] != '\0', modes[i].warned, "%o: %s", modes[i].mode, loaded.warning);
                if (modes[i].warned)
                        cr_assert_not_null(strstr(loaded.warning, "chmod 600"));
        }
}

Test(credentials, wipe_leaves_no_secret)
{
        put(".aws/credentials", "[a]\naws_access_key_id=A\naws_secret_access_key=HIDDEN\naws_session_token=T\n", 0600);
        load_ok(&profile_a, "A", "");
        credentials_wipe(&loaded);
        cr_assert_null(memmem(&loaded, sizeof(loaded), "HIDDEN", 6));
        cr_assert_eq(loaded.session_token[0], 0);
        cr_assert_eq(loaded.access_key_id[0], 0);
}

Test(credentials, region_order)
{
        char region[64];
        credentials_region(&no_options, region);
        cr_assert_str_eq(region, "");
        put(".aws/config", "[default]\nregion = eu-central-1\n[profile a]\nregion = eu-north-1\n", 0600);
        credentials_region(&no_options, region);
        cr_assert_str_eq(region, "eu-central-1");
        credentials_region(&profile_a, region);
        cr_assert_str_eq(region, "eu-north-1");
        setenv("AWS_DEFAULT_REGION", "us-west-1", 1);
        credentials_region(&profile_a, region);
        cr_assert_str_eq(region, "us-west-1");
        setenv("AWS_REGION", "us-west-2", 1);
        credentials_region(&no_options, region);
        cr_assert_str_eq(region, "us-west-2");
        setenv("AWS_REGION", "bad region", 1);
        credentials_region(&no_options, region);
        cr_assert_str_eq(region, "us-west-1");
}

/* ---------------------------------------------------------------------------------------------- the format */

Test(credentials, profile_format)
{
        static const struct {
                const char *text;
                bool is_config;
                const char *profile;
                uint32_t line;  /* of the section; 0: none */
                const char *id; /* NULL: absent */
                uint32_t id_line;
        } cases[] = {
                {"", false, "default", 0, NULL, 0},
                {"[default]\naws_access_key_id=A", false, "default", 1, "A", 2},
                {"\xef\xbb\xbf[default]\r\naws_access_key_id = A \r\n", false, "default", 1, "A", 2},
                {"# [a]\n;[a]\n\n[a]\n# aws_access_key_id=B\naws_access_key_id=A\n", false, "a", 4, "A", 6},
                {"[a] ; comment\nAWS_Access_Key_ID\t=\tA\t# comment\n", false, "a", 1, "A", 2},
                {"[a]\naws_access_key_id=A#B;C\n", false, "a", 1, "A#B;C", 2},
                {"[a]\naws_access_key_id=A==\n", false, "a", 1, "A==", 2},
                {"[ a ]\naws_access_key_id=A\n", false, "a", 1, "A", 2},
                /* The config file's names. */
                {"[a]\naws_access_key_id=A\n", true, "a", 0, NULL, 0},
                {"[profile a]\naws_access_key_id=A\n", true, "a", 1, "A", 2},
                {"[profile  \"a b\"]\naws_access_key_id=A\n", true, "a b", 1, "A", 2},
                {"[profile 'a']\naws_access_key_id=A\n", true, "a", 1, "A", 2},
                {"[profile default]\naws_access_key_id=A\n", true, "default", 1, "A", 2},
                {"[profilea]\naws_access_key_id=A\n", true, "a", 0, NULL, 0},
                {"[sso-session a]\naws_access_key_id=A\n[services a]\naws_access_key_id=B\n", true, "a", 0, NULL, 0},
                {"[profile a]\naws_access_key_id=A\n", false, "a", 0, NULL, 0},
                /* Nested settings are skipped, keys that are merely indented are not. */
                {"[a]\ns3 =\n  aws_access_key_id=B\n\taws_access_key_id=C\naws_access_key_id=A\n", false, "a", 1, "A",
                 5},
                {"[a]\n  region=x\n  aws_access_key_id=A\n", false, "a", 1, "A", 3},
                {"[b]\naws_access_key_id=B\n   continued\n[a]\naws_access_key_id=A\n", false, "a", 4, "A", 5},
                /* Twice, but not in the chosen profile. */
                {"[b]\nx=1\nx=2\n[b]\n[a]\naws_access_key_id=A\n", false, "a", 5, "A", 6},
                {"[a]\nunknown=1\nunknown=2\naws_access_key_id=A\n", false, "a", 1, "A", 4},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct credentials_profile profile;
                struct err err = {0};
                cr_assert_eq(credentials_profile_read(guard_page_copy(slice_of_text(cases[i].text)), "f",
                                                      cases[i].is_config, slice_of_text(cases[i].profile), &profile,
                                                      &err),
                             ERR_OK, "case %zu: %s", i, err.text);
                cr_assert_eq(profile.line, cases[i].line, "case %zu: line %u", i, profile.line);
                cr_assert_eq(profile.keys[CREDENTIALS_KEY_ACCESS_KEY_ID].line, cases[i].id_line, "case %zu", i);
                struct slice id = profile.keys[CREDENTIALS_KEY_ACCESS_KEY_ID].value;
                cr_assert(slice_equal(id, slice_of_text(cases[i].id)), "case %zu: %.*s", i, SLICE_PRINTF(id));
        }
}

Test(credentials, malformed_files_name_the_line)
{
        static const struct {
                const char *text;
                enum err_code code;
                const char *sentence;
        } cases[] = {
                {"x = 1\n", ERR_SYNTAX, "f:1: a key before the first section"},
                {"[a]\nno equals sign\n", ERR_SYNTAX, "f:2: expected"},
                {"[a]\n= value\n", ERR_SYNTAX, "f:2: expected"},
                {"[a\nx=1\n", ERR_SYNTAX, "f:1: a section"},
                {"\n\n[a] x\n", ERR_SYNTAX, "f:3: a section"},
                {"[b]\nbroken\n[a]\n", ERR_SYNTAX, "f:2: expected"},
                {"[a]\nx=1\n[b]\n[a]\n", ERR_DUPLICATE, "f:4: the section of profile a is already in line 1"},
                {"[a]\naws_access_key_id=A\nAWS_ACCESS_KEY_ID=B\n", ERR_DUPLICATE, "is already set in line 2"},
                {"[a]\naws_session_token=A\naws_security_token=B\n", ERR_DUPLICATE, "is already set in line 2"},
                {"[a]\naws_secret_access_key=A\n   B\n", ERR_SYNTAX, "f:3: the indented line continues"},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct credentials_profile profile = {.line = 77};
                struct err err = {0};
                cr_assert_eq(credentials_profile_read(guard_page_copy(slice_of_text(cases[i].text)), "f", false,
                                                      SLICE("a"), &profile, &err),
                             cases[i].code, "case %zu", i);
                cr_assert_not_null(strstr(err.text, cases[i].sentence), "case %zu: %s", i, err.text);
                cr_assert_eq(profile.line, 77);
        }
}
