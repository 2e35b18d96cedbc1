#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* For the analyzer they are macros (err.h). */
#undef err_set
#undef err_set_errno
#undef err_wrap

enum err_code err_set(struct err *reterr, enum err_code code, const char *format, ...)
{
        if (reterr == NULL)
                return code;
        va_list args;
        va_start(args, format);
        reterr->code = code;
        reterr->sys_errno = 0;
        (void)vsnprintf(reterr->text, sizeof(reterr->text), format, args); /* cutting is the documented behaviour */
        va_end(args);
        return code;
}

static enum err_code err_code_of_errno(enum err_code code, int sys_errno)
{
        if (code != ERR_SYSTEM)
                return code;
        if (sys_errno == ENOSPC || sys_errno == EDQUOT || sys_errno == EFBIG) /* the last one: LimitFSIZE= */
                return ERR_DISK_FULL;
        if (sys_errno == ENOMEM)
                return ERR_MEMORY;
        if (sys_errno == EACCES || sys_errno == EPERM)
                return ERR_PERMISSION;
        return code;
}

enum err_code err_set_errno(struct err *reterr, enum err_code code, int sys_errno, const char *format, ...)
{
        code = err_code_of_errno(code, sys_errno);
        if (reterr == NULL)
                return code;
        va_list args;
        va_start(args, format);
        reterr->code = code;
        reterr->sys_errno = sys_errno;
        int used = vsnprintf(reterr->text, sizeof(reterr->text), format, args);
        va_end(args);
        if (used >= 0 && (size_t)used < sizeof(reterr->text)) {
                char name[128];
                /* The GNU strerror_r: returns the text, which may or may not be in `name`. */
                const char *text = strerror_r(sys_errno, name, sizeof(name));
                (void)snprintf(reterr->text + used, sizeof(reterr->text) - (size_t)used, ": %s", text);
        }
        return code;
}

enum err_code err_wrap(struct err *reterr, const char *format, ...)
{
        if (reterr == NULL)
                return ERR_OK;
        char inner[ERR_TEXT_BYTES_MAX];
        memcpy(inner, reterr->text, sizeof(inner));
        inner[sizeof(inner) - 1] = '\0';
        va_list args;
        va_start(args, format);
        int used = vsnprintf(reterr->text, sizeof(reterr->text), format, args);
        va_end(args);
        if (used >= 0 && (size_t)used + 2 < sizeof(reterr->text)) {
                /* Cut to what is left: the outermost words say most. */
                size_t room = sizeof(reterr->text) - (size_t)used - 2;
                size_t len = strlen(inner) < room - 1 ? strlen(inner) : room - 1;
                memcpy(reterr->text + used, ": ", 2);
                memcpy(reterr->text + used + 2, inner, len);
                reterr->text[(size_t)used + 2 + len] = '\0';
        }
        return reterr->code;
}

const char *err_name(enum err_code code)
{
        switch (code) {
        case ERR_OK:
                return "ERR_OK";
#define ERR_NAME_CASE(name, class_, number, text) \
        case name:                                \
                return #name;
                ERR_TABLE(ERR_NAME_CASE)
#undef ERR_NAME_CASE
        }
        return "unknown error code";
}

const char *err_text(enum err_code code)
{
        switch (code) {
        case ERR_OK:
                return "ok";
#define ERR_TEXT_CASE(name, class_, number, text) \
        case name:                                \
                return text;
                ERR_TABLE(ERR_TEXT_CASE)
#undef ERR_TEXT_CASE
        }
        return "unknown error code";
}

const char *err_class_name(enum err_class class_)
{
        switch (class_) {
        case ERR_CLASS_NONE:
                return "none";
        case ERR_CLASS_AGAIN:
                return "again";
        case ERR_CLASS_RETRY:
                return "retry";
        case ERR_CLASS_REFUSED:
                return "refused";
        case ERR_CLASS_INPUT:
                return "input";
        case ERR_CLASS_CONFIG:
                return "config";
        case ERR_CLASS_SYSTEM:
                return "system";
        case ERR_CLASS_CORRUPT:
                return "corrupt";
        case ERR_CLASS_BUG:
                return "bug";
        }
        return "unknown class";
}
