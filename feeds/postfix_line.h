/* The grammar of Postfix's log lines, without any state: where the parts of one line begin and end. All slices point
 * into the line. Text that others chose (addresses, subjects, replies) may contain anything, the words of the grammar
 * included: each anchor is chosen so that such text cannot move it. */
#ifndef SENDRING_FEEDS_POSTFIX_LINE_H
#define SENDRING_FEEDS_POSTFIX_LINE_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* `Mon dd hh:mm:ss host tag[pid]: text` or the same with an RFC 3339 time. */
struct postfix_syslog {
        struct slice stamp, host, tag, text;
        uint32_t pid; /* 0: none given */
};
bool postfix_syslog_parse(struct slice line, struct postfix_syslog *ret_syslog);

/* The last component of "postfix/submission/smtpd". */
struct slice postfix_program(struct slice tag);

/* Splits "QUEUEID: rest". False when the text does not begin with a queue id, short or long. */
bool postfix_queue_id(struct slice text, struct slice *ret_queue_id, struct slice *ret_rest);

/* `to=<..>, [orig_to=<..>,] relay=.., [conn_use=..,] delay=.., delays=.., [tls=..,] dsn=.., status=WORD (TEXT)` */
struct postfix_outcome {
        struct slice to, relay, dsn, status, text;
        int64_t delay_ms;
};
bool postfix_outcome_parse(struct slice text, struct postfix_outcome *ret_outcome);

/* The address in the brackets of "mx.example.com[192.0.2.1]:25"; empty when there is none. */
struct slice postfix_relay_ip(struct slice relay);
/* What the peer said: of "host NAME[IP] said: REPLY (in reply to CMD command)" the REPLY. False: no peer spoke. */
bool postfix_peer_reply(struct slice text, struct slice *ret_reply);

/* `ACTION: header NAME: VALUE from CLIENT; from=<..> ...`; `cut`: the log stops at 200 bytes. */
struct postfix_header {
        struct slice action, name, value;
        bool cut;
};
bool postfix_header_parse(struct slice text, struct postfix_header *ret_header);

/* `WHAT: STAGE from CLIENT: REPLY; from=<..> to=<..> proto=.. helo=<..>` of milters. */
struct postfix_refusal {
        struct slice stage, client, reply, from, to;
};
bool postfix_refusal_parse(struct slice text, struct postfix_refusal *ret_refusal);

/* An address between "<" and ">", quoted local parts understood. *at stands on "<" and is moved behind ">". */
bool postfix_address(struct slice text, size_t *at, struct slice *ret_address);

#endif
