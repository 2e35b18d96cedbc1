#include "base/host.h"

#include <arpa/inet.h>

static bool host_is_digit(uint8_t byte)
{
        return byte >= '0' && byte <= '9';
}

static bool host_is_name_byte(uint8_t byte)
{
        return host_is_digit(byte) || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '-' ||
               byte == '_';
}

static bool host_is_label(struct slice label)
{
        if (label.len == 0 || label.len > HOST_LABEL_BYTES_MAX || label.ptr[0] == '-' ||
            label.ptr[label.len - 1] == '-')
                return false;
        for (size_t i = 0; i < label.len; i++)
                if (!host_is_name_byte(label.ptr[i]))
                        return false;
        return true;
}

bool host_is_name(struct slice text)
{
        struct slice rest = text;
        struct slice label = SLICE_EMPTY;
        if (text.len == 0 || text.len > HOST_BYTES_MAX)
                return false;
        while (rest.ptr != NULL) {
                label = slice_cut(&rest, '.');
                if (!host_is_label(label))
                        return false;
        }
        for (size_t i = 0; i < label.len; i++)
                if (!host_is_digit(label.ptr[i]))
                        return true;
        return false;
}

static bool host_is_address(int family, struct slice text)
{
        char name[INET6_ADDRSTRLEN];
        uint8_t address[16];
        return slice_to_text(text, name, sizeof(name)) && inet_pton(family, name, address) == 1;
}

bool host_is_ipv4(struct slice text)
{
        return host_is_address(AF_INET, text);
}

bool host_is_ipv6(struct slice text)
{
        return host_is_address(AF_INET6, text);
}
