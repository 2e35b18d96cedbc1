/* What a refusal means: SMTP status and text to SES's bounceType/bounceSubType and delayType.
 *
 * The enhanced status code goes first, then the three-digit code, then words in the text; the words also decide where a
 * code is known to be used for different things (5.2.2 and 5.7.1 most of all). Pure functions over their arguments. */
#ifndef SENDRING_FEEDS_CLASSIFY_H
#define SENDRING_FEEDS_CLASSIFY_H

#include "base/slice.h"

#include <stdbool.h>

enum classify_profile {
        CLASSIFY_SES = 0,    /* an unknown mailbox is Permanent/General, as in SES's own records */
        CLASSIFY_STRICT = 1, /* an unknown mailbox is Permanent/NoEmail, as in SES's description */
};

/* "ses", "strict"; false for anything else. */
bool classify_profile_parse(const char *text, enum classify_profile *ret_profile);

struct classify_verdict {
        const char *bounce_type;     /* "Permanent", "Transient", "Undetermined" */
        const char *bounce_sub_type; /* "General", "MailboxFull", ... */
        const char *delay_type;      /* "MailboxFull", "TransientCommunicationFailure", ... */
};

/* `status`: "4.2.2", or empty; `text`: the peer's reply or the MTA's own words; `from_peer`: whether a peer said it.
 * `expired`: the MTA gave up after retrying: never Permanent. */
struct classify_verdict classify(enum classify_profile profile, struct slice status, struct slice text, bool from_peer,
                                 bool expired);

/* "Bad content" is SES's only reason to reject: whether a content filter's text speaks of content. */
bool classify_is_content(struct slice text);

#endif
