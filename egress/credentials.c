#include "egress/credentials.h"

#include "base/assert.h"
#include "base/limits.h"
#include "codecs/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CREDENTIALS_PATH_BYTES_MAX    4096u
#define CREDENTIALS_WHERE_BYTES_MAX   (CREDENTIALS_PATH_BYTES_MAX + 16u)
#define CREDENTIALS_PROFILE_BYTES_MAX 128u

/* ---------------------------------------------------------------------------------------------- one file */

static const struct {
        const char *name;
        enum credentials_key key;
} credentials_key_names[] = {
        {"aws_access_key_id", CREDENTIALS_KEY_ACCESS_KEY_ID},
        {"aws_secret_access_key", CREDENTIALS_KEY_SECRET_ACCESS_KEY},
        {"aws_session_token", CREDENTIALS_KEY_SESSION_TOKEN},
        {"aws_security_token", CREDENTIALS_KEY_SESSION_TOKEN}, /* its old name */
        {"aws_account_id", CREDENTIALS_KEY_ACCOUNT_ID},
        {"region", CREDENTIALS_KEY_REGION},
        {"role_arn", CREDENTIALS_KEY_ROLE_ARN},
        {"web_identity_token_file", CREDENTIALS_KEY_WEB_IDENTITY_TOKEN_FILE},
        {"sso_session", CREDENTIALS_KEY_SSO_SESSION},
        {"sso_start_url", CREDENTIALS_KEY_SSO_START_URL},
        {"login_session", CREDENTIALS_KEY_LOGIN_SESSION},
        {"credential_process", CREDENTIALS_KEY_CREDENTIAL_PROCESS},
};

static enum credentials_key credentials_key_find(struct slice name)
{
        for (size_t i = 0; i < sizeof(credentials_key_names) / sizeof(credentials_key_names[0]); i++)
                if (slice_equal_ignore_case(name, slice_of_text(credentials_key_names[i].name)))
                        return credentials_key_names[i].key;
        return CREDENTIALS_KEYS_COUNT;
}

static bool credentials_is_blank(uint8_t byte)
{
        return byte == ' ' || byte == '\t';
}

/* Cuts off a comment that follows white space. */
static struct slice credentials_cut_comment(struct slice s)
{
        for (size_t i = 1; i < s.len; i++)
                if ((s.ptr[i] == '#' || s.ptr[i] == ';') && credentials_is_blank(s.ptr[i - 1]))
                        return slice_head(s, i);
        return s;
}

/* Whether the section's name (between the brackets) means the profile. */
static bool credentials_section_is(struct slice section, bool is_config, struct slice profile)
{
        section = slice_trim(section);
        if (!is_config)
                return slice_equal(section, profile);
        if (slice_equal(section, SLICE("default")))
                return slice_equal(profile, SLICE("default"));
        if (!slice_has_prefix(section, SLICE("profile")))
                return false;
        struct slice name = slice_from(section, sizeof("profile") - 1);
        if (name.len == 0 || !credentials_is_blank(name.ptr[0]))
                return false;
        name = slice_trim(name);
        if (name.len >= 2 && (name.ptr[0] == '"' || name.ptr[0] == '\'') && name.ptr[name.len - 1] == name.ptr[0])
                name = slice_of(name.ptr + 1, name.len - 2);
        return slice_equal(name, profile);
}

enum err_code credentials_profile_read(struct slice text, const char *path, bool is_config, struct slice profile,
                                       struct credentials_profile *ret_profile, struct err *reterr)
{
        struct credentials_profile found = {0};
        bool in_section = false, in_profile = false, has_key = false;
        size_t key_indent = 0;
        enum credentials_key last_key = CREDENTIALS_KEYS_COUNT;
        uint32_t line_number = 0;
        struct slice rest = slice_has_prefix(text, SLICE("\xef\xbb\xbf")) ? slice_from(text, 3) : text;

        while (rest.len > 0) {
                struct slice line = slice_cut(&rest, '\n');
                line_number++;
                if (line.len > 0 && line.ptr[line.len - 1] == '\r')
                        line.len--;
                size_t indent = 0;
                while (indent < line.len && credentials_is_blank(line.ptr[indent]))
                        indent++;
                struct slice content = slice_trim(line);
                if (content.len == 0 || content.ptr[0] == '#' || content.ptr[0] == ';')
                        continue;
                if (has_key && indent > key_indent) {
                        /* Nested settings, of `s3 =` for example. Below a key of ours it would be a value in two
                         * lines, of which the rest must not be lost silently. */
                        if (in_profile && last_key != CREDENTIALS_KEYS_COUNT)
                                return err_set(
                                        reterr, ERR_SYNTAX,
                                        "%s:%u: the indented line continues the key above, whose value must be on "
                                        "one line",
                                        path, line_number);
                        continue;
                }
                if (content.ptr[0] == '[') {
                        size_t end = slice_find_byte(content, ']');
                        struct slice behind = slice_trim(slice_from(content, end + 1));
                        if (end == content.len || (behind.len > 0 && behind.ptr[0] != '#' && behind.ptr[0] != ';'))
                                return err_set(reterr, ERR_SYNTAX, "%s:%u: a section is written [name] on its own line",
                                               path, line_number);
                        in_section = true;
                        has_key = false;
                        in_profile = credentials_section_is(slice_of(content.ptr + 1, end - 1), is_config, profile);
                        if (in_profile && found.line != 0)
                                return err_set(
                                        reterr, ERR_DUPLICATE,
                                        "%s:%u: the section of profile %.*s is already in line %u: merge the two", path,
                                        line_number, SLICE_PRINTF(profile), found.line);
                        if (in_profile)
                                found.line = line_number;
                        continue;
                }
                size_t equals = slice_find_byte(content, '=');
                struct slice name = slice_trim(slice_head(content, equals));
                if (equals == content.len || name.len == 0)
                        return err_set(reterr, ERR_SYNTAX, "%s:%u: expected \"key = value\", a [section] or a comment",
                                       path, line_number);
                if (!in_section)
                        return err_set(
                                reterr, ERR_SYNTAX,
                                "%s:%u: a key before the first section; put [%s] above it for the default profile",
                                path, line_number, "default");
                has_key = true;
                key_indent = indent;
                last_key = credentials_key_find(name);
                if (!in_profile || last_key == CREDENTIALS_KEYS_COUNT)
                        continue;
                if (found.keys[last_key].line != 0)
                        return err_set(reterr, ERR_DUPLICATE, "%s:%u: %.*s is already set in line %u", path,
                                       line_number, SLICE_PRINTF(slice_head(name, 64)), found.keys[last_key].line);
                found.keys[last_key].value = slice_trim(credentials_cut_comment(slice_from(content, equals + 1)));
                found.keys[last_key].line = line_number;
        }
        *ret_profile = found;
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- reading files */

struct credentials_file {
        char path[CREDENTIALS_PATH_BYTES_MAX];
        uint8_t *bytes; /* NULL: the file does not exist */
        size_t room;
        size_t len;
        unsigned mode;
        struct credentials_profile profile;
};

/* Text of an environment variable; "" when it is absent. */
static const char *credentials_env(const char *name)
{
        const char *value = getenv(name);
        return value == NULL ? "" : value;
}

/* Where the file is: option, environment, home directory; "~/" is expanded. */
static enum err_code credentials_path(const char *option, const char *variable, const char *name_below_home,
                                      char ret_path[CREDENTIALS_PATH_BYTES_MAX], struct err *reterr)
{
        const char *text = option[0] != '\0' ? option : credentials_env(variable);
        const char *below_home = text[0] == '\0' ? name_below_home : strncmp(text, "~/", 2) == 0 ? text + 2 : NULL;
        const char *home = "";
        if (below_home != NULL) {
                home = credentials_env("HOME");
                struct passwd *user = home[0] == '\0' ? getpwuid(geteuid()) : NULL;
                if (user != NULL && user->pw_dir != NULL)
                        home = user->pw_dir;
                if (home[0] == '\0')
                        return err_set(
                                reterr, ERR_CREDENTIALS,
                                "cannot look for ~/%s: neither HOME nor the user database names a home directory",
                                below_home);
        }
        int used = snprintf(ret_path, CREDENTIALS_PATH_BYTES_MAX, "%s%s%s", home, below_home == NULL ? "" : "/",
                            below_home == NULL ? text : below_home);
        if (used < 0 || used >= (int)CREDENTIALS_PATH_BYTES_MAX)
                return err_set(reterr, ERR_CREDENTIALS, "the path of ~/%s is too long", name_below_home);
        return ERR_OK;
}

/* Not base/file.h: these bytes are wiped, and the file's mode is looked at. */
static enum err_code credentials_file_read(struct credentials_file *file, bool required, struct err *reterr)
{
        struct stat status;
        /* O_NONBLOCK: opening a FIFO would wait for who writes to it. */
        int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 && (errno == ENOENT || errno == ENOTDIR) && !required)
                return ERR_OK;
        if (fd < 0)
                return err_set_errno(reterr, ERR_CREDENTIALS, errno, "cannot open %s", file->path);
        enum err_code code = ERR_OK;
        if (fstat(fd, &status) < 0) {
                code = err_set_errno(reterr, ERR_CREDENTIALS, errno, "cannot look at %s", file->path);
                goto out;
        }
        if (!S_ISREG(status.st_mode)) {
                code = err_set(reterr, ERR_CREDENTIALS, "%s is no regular file", file->path);
                goto out;
        }
        if (status.st_size > (off_t)LIMIT_CREDENTIALS_BYTES_MAX) {
                code = err_set(reterr, ERR_CREDENTIALS, "%s is larger than the %u bytes allowed for it", file->path,
                               LIMIT_CREDENTIALS_BYTES_MAX);
                goto out;
        }
        file->mode = (unsigned)status.st_mode & 07777u;
        file->room = (size_t)status.st_size + 1; /* the file may be empty */
        file->bytes = malloc(file->room);
        if (file->bytes == NULL) {
                code = err_set(reterr, ERR_MEMORY, "out of memory reading %s", file->path);
                goto out;
        }
        while (file->len < (size_t)status.st_size) {
                ssize_t got = read(fd, file->bytes + file->len, (size_t)status.st_size - file->len);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        code = err_set_errno(reterr, ERR_CREDENTIALS, errno, "cannot read %s", file->path);
                if (got <= 0)
                        break;
                file->len += (size_t)got;
        }
out:
        (void)close(fd); /* opened for reading only */
        return code;
}

static void credentials_file_release(struct credentials_file *file)
{
        if (file->bytes == NULL)
                return;
        OPENSSL_cleanse(file->bytes, file->room);
        free(file->bytes);
        file->bytes = NULL;
}

/* Both files and the chosen profile in them. */
struct credentials_files {
        char profile[CREDENTIALS_PROFILE_BYTES_MAX];
        bool profile_explicit; /* by option */
        bool profile_named;    /* by option or AWS_PROFILE */
        struct credentials_file shared;
        struct credentials_file config;
};

static enum err_code credentials_files_read(const struct credentials_options *options, struct credentials_files *files,
                                            struct err *reterr)
{
        const char *profile = options->profile[0] != '\0' ? options->profile : credentials_env("AWS_PROFILE");
        files->profile_explicit = options->profile[0] != '\0';
        files->profile_named = profile[0] != '\0';
        if (!slice_to_text(slice_of_text(profile[0] == '\0' ? "default" : profile), files->profile,
                           sizeof(files->profile)))
                return err_set(reterr, ERR_CREDENTIALS, "the profile's name is longer than %u bytes",
                               CREDENTIALS_PROFILE_BYTES_MAX - 1);
        struct credentials_file *each[] = {&files->shared, &files->config};
        enum err_code code = credentials_path(options->shared_credentials_file, "AWS_SHARED_CREDENTIALS_FILE",
                                              ".aws/credentials", files->shared.path, reterr);
        if (code == ERR_OK)
                code = credentials_path(options->config_file, "AWS_CONFIG_FILE", ".aws/config", files->config.path,
                                        reterr);
        for (size_t i = 0; i < 2 && code == ERR_OK; i++) {
                bool is_config = each[i] == &files->config;
                const char *option = is_config ? options->config_file : options->shared_credentials_file;
                code = credentials_file_read(each[i], option[0] != '\0', reterr);
                if (code == ERR_OK && each[i]->bytes != NULL)
                        code = credentials_profile_read(slice_of(each[i]->bytes, each[i]->len), each[i]->path,
                                                        is_config, slice_of_text(files->profile), &each[i]->profile,
                                                        reterr);
        }
        if (code != ERR_OK && code != ERR_MEMORY) {
                code = ERR_CREDENTIALS;
                if (reterr != NULL)
                        reterr->code = code;
        }
        return code;
}

static void credentials_files_release(struct credentials_files *files)
{
        credentials_file_release(&files->shared);
        credentials_file_release(&files->config);
}

/* The file that has the key, the credentials file first; NULL when none has. */
static const struct credentials_file *credentials_files_find(const struct credentials_files *files,
                                                             enum credentials_key key)
{
        if (files->shared.profile.keys[key].line != 0)
                return &files->shared;
        if (files->config.profile.keys[key].line != 0)
                return &files->config;
        return NULL;
}

/* ---------------------------------------------------------------------------------------------- checks */

/* These texts go into HTTP headers: visible ASCII only. */
static bool credentials_is_token(struct slice text)
{
        for (size_t i = 0; i < text.len; i++)
                if (text.ptr[i] <= ' ' || text.ptr[i] >= 0x7f)
                        return false;
        return true;
}

static bool credentials_is_region(struct slice text)
{
        /* It becomes part of a host name. */
        for (size_t i = 0; i < text.len; i++) {
                uint8_t byte = text.ptr[i];
                if (!((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
                      byte == '-'))
                        return false;
        }
        return text.len > 0;
}

/* `where` names the source for a person: "AWS_SESSION_TOKEN", "/root/.aws/credentials:3". */
static enum err_code credentials_take(struct slice value, const char *what, const char *where, char *out,
                                      size_t out_bytes, struct err *reterr)
{
        if (value.len == 0)
                return err_set(reterr, ERR_CREDENTIALS, "%s: %s is empty", where, what);
        if (!credentials_is_token(value))
                return err_set(reterr, ERR_CREDENTIALS, "%s: %s holds a space, a control byte or a non-ASCII character",
                               where, what);
        if (!slice_to_text(value, out, out_bytes))
                return err_set(reterr, ERR_CREDENTIALS, "%s: %s is longer than %zu bytes", where, what, out_bytes - 1);
        return ERR_OK;
}

static enum err_code credentials_take_account(struct slice value, const char *where, struct credentials *credentials,
                                              struct err *reterr)
{
        uint64_t number;
        if (value.len != 12 || !slice_to_u64(value, UINT64_MAX, &number))
                return err_set(reterr, ERR_CREDENTIALS, "%s: an AWS account id has 12 digits", where);
        bool fits = slice_to_text(value, credentials->account_id, sizeof(credentials->account_id));
        ASSERT(fits);
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- sources */

static enum err_code credentials_from_environment(struct credentials *credentials, struct err *reterr)
{
        enum err_code code = credentials_take(slice_of_text(credentials_env("AWS_ACCESS_KEY_ID")), "the access key id",
                                              "environment variable AWS_ACCESS_KEY_ID (AWS_SECRET_ACCESS_KEY is set)",
                                              credentials->access_key_id, sizeof(credentials->access_key_id), reterr);
        if (code != ERR_OK)
                return code;
        code = credentials_take(slice_of_text(credentials_env("AWS_SECRET_ACCESS_KEY")), "the secret access key",
                                "environment variable AWS_SECRET_ACCESS_KEY (AWS_ACCESS_KEY_ID is set)",
                                credentials->secret_access_key, sizeof(credentials->secret_access_key), reterr);
        if (code != ERR_OK)
                return code;
        const char *variable =
                credentials_env("AWS_SESSION_TOKEN")[0] != '\0' ? "AWS_SESSION_TOKEN" : "AWS_SECURITY_TOKEN";
        struct slice token = slice_of_text(credentials_env(variable));
        if (token.len > 0)
                code = credentials_take(token, "the session token", variable, credentials->session_token,
                                        sizeof(credentials->session_token), reterr);
        if (code != ERR_OK)
                return code;
        struct slice account = slice_of_text(credentials_env("AWS_ACCOUNT_ID"));
        if (account.len > 0)
                code = credentials_take_account(account, "AWS_ACCOUNT_ID", credentials, reterr);
        if (code != ERR_OK)
                return code;
        struct slice expiration = slice_of_text(credentials_env("AWS_CREDENTIAL_EXPIRATION"));
        if (expiration.len > 0 && !codec_time_parse(expiration, &credentials->expires_ms))
                return err_set(reterr, ERR_CREDENTIALS,
                               "AWS_CREDENTIAL_EXPIRATION is no RFC 3339 time, such as 2026-01-02T03:04:05Z");
        (void)slice_to_text(SLICE("environment"), credentials->source, sizeof(credentials->source)); /* fits */
        return ERR_OK;
}

/* "/root/.aws/credentials:3", the place of a key. */
static const char *credentials_where(const struct credentials_file *file, enum credentials_key key,
                                     char out[CREDENTIALS_WHERE_BYTES_MAX])
{
        (void)snprintf(out, CREDENTIALS_WHERE_BYTES_MAX, "%s:%u", file->path, file->profile.keys[key].line); /* fits */
        return out;
}

/* Static keys of one file. */
static enum err_code credentials_from_file(const struct credentials_files *files, const struct credentials_file *file,
                                           struct credentials *credentials, struct err *reterr)
{
        static const struct {
                enum credentials_key key;
                const char *name;
        } pair[] = {
                {CREDENTIALS_KEY_ACCESS_KEY_ID, "aws_access_key_id"},
                {CREDENTIALS_KEY_SECRET_ACCESS_KEY, "aws_secret_access_key"},
        };
        char where[CREDENTIALS_WHERE_BYTES_MAX];
        const struct credentials_profile *profile = &file->profile;
        for (size_t i = 0; i < 2; i++)
                if (profile->keys[pair[i].key].line == 0)
                        return err_set(reterr, ERR_CREDENTIALS, "%s:%u: profile %s has %s but no %s", file->path,
                                       profile->keys[pair[1 - i].key].line, files->profile, pair[1 - i].name,
                                       pair[i].name);
        enum err_code code = credentials_take(profile->keys[CREDENTIALS_KEY_ACCESS_KEY_ID].value, "aws_access_key_id",
                                              credentials_where(file, CREDENTIALS_KEY_ACCESS_KEY_ID, where),
                                              credentials->access_key_id, sizeof(credentials->access_key_id), reterr);
        if (code == ERR_OK)
                code = credentials_take(profile->keys[CREDENTIALS_KEY_SECRET_ACCESS_KEY].value, "aws_secret_access_key",
                                        credentials_where(file, CREDENTIALS_KEY_SECRET_ACCESS_KEY, where),
                                        credentials->secret_access_key, sizeof(credentials->secret_access_key), reterr);
        if (code == ERR_OK && profile->keys[CREDENTIALS_KEY_SESSION_TOKEN].value.len > 0)
                code = credentials_take(profile->keys[CREDENTIALS_KEY_SESSION_TOKEN].value, "aws_session_token",
                                        credentials_where(file, CREDENTIALS_KEY_SESSION_TOKEN, where),
                                        credentials->session_token, sizeof(credentials->session_token), reterr);
        if (code == ERR_OK && profile->keys[CREDENTIALS_KEY_ACCOUNT_ID].value.len > 0)
                code = credentials_take_account(profile->keys[CREDENTIALS_KEY_ACCOUNT_ID].value,
                                                credentials_where(file, CREDENTIALS_KEY_ACCOUNT_ID, where), credentials,
                                                reterr);
        if (code != ERR_OK)
                return code;
        /* Long paths are cut: both texts are for a person only. */
        (void)snprintf(credentials->source, sizeof(credentials->source), "profile %.100s in %.140s", files->profile,
                       file->path);
        if ((file->mode & 077u) != 0)
                (void)snprintf(credentials->warning, sizeof(credentials->warning),
                               "%.200s holds a secret key and is open to other users (mode %04o): run chmod 600 on it",
                               file->path, file->mode);
        return ERR_OK;
}

static enum err_code credentials_not_yet(const struct credentials_files *files, enum credentials_key key,
                                         const char *name, struct err *reterr)
{
        const struct credentials_file *file = credentials_files_find(files, key);
        return err_set(reterr, ERR_CREDENTIALS,
                       "%s:%u: profile %s uses %s, which this version does not support yet: put aws_access_key_id and "
                       "aws_secret_access_key into another profile and name that one, or set them in the environment",
                       file->path, file->profile.keys[key].line, files->profile, name);
}

static enum err_code credentials_from_files(const struct credentials_files *files, struct credentials *credentials,
                                            struct err *reterr)
{
        static const struct {
                enum credentials_key key;
                const char *name;
        } first[] = {
                {CREDENTIALS_KEY_ROLE_ARN, "role_arn"},
                {CREDENTIALS_KEY_WEB_IDENTITY_TOKEN_FILE, "web_identity_token_file"},
                {CREDENTIALS_KEY_SSO_SESSION, "sso_session"},
                {CREDENTIALS_KEY_SSO_START_URL, "sso_start_url"},
        };
        /* The order of the SDKs: what comes first and is configured, decides. */
        for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++)
                if (credentials_files_find(files, first[i].key) != NULL)
                        return credentials_not_yet(files, first[i].key, first[i].name, reterr);
        const struct credentials_profile *shared = &files->shared.profile;
        const struct credentials_profile *config = &files->config.profile;
        if (shared->keys[CREDENTIALS_KEY_ACCESS_KEY_ID].line != 0 ||
            shared->keys[CREDENTIALS_KEY_SECRET_ACCESS_KEY].line != 0)
                return credentials_from_file(files, &files->shared, credentials, reterr);
        if (credentials_files_find(files, CREDENTIALS_KEY_LOGIN_SESSION) != NULL)
                return credentials_not_yet(files, CREDENTIALS_KEY_LOGIN_SESSION, "login_session", reterr);
        if (credentials_files_find(files, CREDENTIALS_KEY_CREDENTIAL_PROCESS) != NULL)
                return credentials_not_yet(files, CREDENTIALS_KEY_CREDENTIAL_PROCESS, "credential_process", reterr);
        if (config->keys[CREDENTIALS_KEY_ACCESS_KEY_ID].line != 0 ||
            config->keys[CREDENTIALS_KEY_SECRET_ACCESS_KEY].line != 0)
                return credentials_from_file(files, &files->config, credentials, reterr);
        bool container = credentials_env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")[0] != '\0' ||
                         credentials_env("AWS_CONTAINER_CREDENTIALS_FULL_URI")[0] != '\0';
        return err_set(reterr, ERR_CREDENTIALS,
                       "no AWS credentials: looked at %sprofile %s in %.120s (%s) and in %.120s (%s)%s",
                       files->profile_explicit ? "" : "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (not set), ",
                       files->profile, files->shared.path,
                       files->shared.bytes == NULL ? "no such file"
                       : shared->line == 0         ? "not there"
                                                   : "has no keys",
                       files->config.path,
                       files->config.bytes == NULL ? "no such file"
                       : config->line == 0         ? "not there"
                                                   : "has no keys",
                       container ? "; the container's credentials are not supported yet" : "");
}

/* The profile's region, checked; `ret_region` stays empty when there is none. */
static enum err_code credentials_profile_region(const struct credentials_files *files, char ret_region[64],
                                                struct err *reterr)
{
        const struct credentials_file *file = credentials_files_find(files, CREDENTIALS_KEY_REGION);
        if (file == NULL)
                return ERR_OK;
        struct slice region = file->profile.keys[CREDENTIALS_KEY_REGION].value;
        if (!credentials_is_region(region) || !slice_to_text(region, ret_region, 64))
                return err_set(reterr, ERR_CREDENTIALS, "%s:%u: \"%.*s\" is no region, such as us-east-1", file->path,
                               file->profile.keys[CREDENTIALS_KEY_REGION].line, SLICE_PRINTF(slice_head(region, 64)));
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- public */

enum err_code credentials_load(const struct credentials_options *options, struct credentials *ret_credentials,
                               struct err *reterr)
{
        struct credentials loaded = {.expires_ms = INT64_MAX};
        struct credentials_files *files = calloc(1, sizeof(*files));
        if (files == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory loading AWS credentials");
        /* The files are read although the environment may have the keys: the profile's region is wanted too. */
        enum err_code code = credentials_files_read(options, files, reterr);
        if (code != ERR_OK)
                goto out;
        /* Also beside keys in the environment: whoever names a profile wants it to be there, as the SDKs do. */
        if (files->profile_named && files->shared.profile.line == 0 && files->config.profile.line == 0) {
                code = err_set(reterr, ERR_CREDENTIALS, "profile %s, chosen by %s, is neither in %.150s nor in %.150s",
                               files->profile, files->profile_explicit ? "the configuration" : "AWS_PROFILE",
                               files->shared.path, files->config.path);
                goto out;
        }
        bool environment = !files->profile_explicit && (credentials_env("AWS_ACCESS_KEY_ID")[0] != '\0' ||
                                                        credentials_env("AWS_SECRET_ACCESS_KEY")[0] != '\0');
        if (environment)
                code = credentials_from_environment(&loaded, reterr);
        else if (!files->profile_explicit && credentials_env("AWS_WEB_IDENTITY_TOKEN_FILE")[0] != '\0')
                code = err_set(
                        reterr, ERR_CREDENTIALS,
                        "AWS_WEB_IDENTITY_TOKEN_FILE is set, and this version does not support web identity yet: "
                        "unset it, or name a profile with aws_access_key_id and aws_secret_access_key");
        else
                code = credentials_from_files(files, &loaded, reterr);
        if (code == ERR_OK)
                code = credentials_profile_region(files, loaded.region, reterr);
        if (code == ERR_OK)
                *ret_credentials = loaded;
out:
        credentials_files_release(files);
        free(files);
        credentials_wipe(&loaded);
        return code;
}

void credentials_wipe(struct credentials *credentials)
{
        OPENSSL_cleanse(credentials->access_key_id, sizeof(credentials->access_key_id));
        OPENSSL_cleanse(credentials->secret_access_key, sizeof(credentials->secret_access_key));
        OPENSSL_cleanse(credentials->session_token, sizeof(credentials->session_token));
}

void credentials_region(const struct credentials_options *options, char ret_region[64])
{
        static const char *const variables[] = {"AWS_REGION", "AWS_DEFAULT_REGION"};
        ret_region[0] = '\0';
        for (size_t i = 0; i < 2; i++) {
                struct slice value = slice_of_text(credentials_env(variables[i]));
                if (credentials_is_region(value) && slice_to_text(value, ret_region, 64))
                        return;
        }
        struct credentials_files *files = calloc(1, sizeof(*files));
        if (files == NULL)
                return;
        if (credentials_files_read(options, files, NULL) == ERR_OK)
                (void)credentials_profile_region(files, ret_region, NULL); /* "" says that there is none */
        credentials_files_release(files);
        free(files);
}
