"""Real mail events, nothing faked in between: smtp-source -> Postfix -> smtp-sink; Postfix's log -> sendring feed -> router
-> moto's Firehose (signatures checked) -> S3 -> boto3 -> django-anymail. Counts per type equal what the log says, counted
here by other means than the feed's. On the way the log is rotated and the feed killed."""
import collections
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse

import system
import moto_aws
import postfix_instance
from harness import held_port
from postfix_instance import command, environment

MESSAGES = 2000
BUCKET, STREAM = "mail-events", "mail-events"
# set, tags header(s), domain, recipients each, share of the messages
LOAD = [
    ("bulk-a", ["campaign=april, genre=sci-fi"], "accept", 1, 0.35),
    ("bulk-b", ["campaign=may"], "accept", 1, 0.25),
    ("news", ["campaign=june,", " genre=crime", "ses:feedback-id-a=list-7"], "accept", 1, 0.17),
    ("bulk-a", ["campaign=april, genre=sci-fi"], "accept", 3, 0.02),
    ("bulk-a", ["campaign=april, genre=sci-fi"], "hard", 1, 0.10),
    ("bulk-b", ["campaign=may"], "full", 1, 0.06),
    ("news", ["campaign=june"], "dead", 1, 0.04),
    ("news", ["campaign=june"], "soft", 1, 0.01),
]
# What some mails carry along: a message whose headers are not theirs.
ATTACHED = """From: Other <other@inner.example>
To: eva@inner.example
Subject: of the attached message
X-SES-CONFIGURATION-SET: bulk-b
X-SES-MESSAGE-TAGS: campaign=inner

Bye
"""
HOSTILE_HARD = '550 5.1.1 <x>: "user, dsn=2.0.0, status=sent (250 2.0.0 Ok)" unknown'
HOSTILE_SOFT = '452 4.2.2 Mailbox full, "try" (later), dsn=4.9.9, status=bounced (in reply to x command)'


# ------------------------------------------------------------------------------------------------ AWS, by moto

class Moto(moto_aws.Moto):
    """With a delivery stream into a bucket."""

    def __init__(self, stack):
        super().__init__(stack)
        self.s3 = self.client("s3")
        self.firehose = self.client("firehose")
        self.s3.create_bucket(Bucket=BUCKET)
        self.firehose.create_delivery_stream(
            DeliveryStreamName=STREAM, DeliveryStreamType="DirectPut",
            ExtendedS3DestinationConfiguration={"RoleARN": "arn:aws:iam::123456789012:role/firehose",
                                                "BucketARN": "arn:aws:s3:::" + BUCKET})
        self.refuses = self.refusal(self.client("firehose", self.wrong_secret()))

    @staticmethod
    def refusal(firehose):
        from botocore.exceptions import ClientError
        try:
            firehose.put_record(DeliveryStreamName=STREAM, Record={"Data": b"x\n"})
        except ClientError as error:
            return error.response["Error"]["Code"]
        return "nothing"

    def events(self):
        """Every stored line."""
        lines = []
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for item in page.get("Contents", []):
                body = self.s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
                if not body.endswith(b"\n"):
                    raise system.Failure("object %s does not end with a newline" % item["Key"])
                lines += body.decode().splitlines()
        return lines


# ------------------------------------------------------------------------------------------------ mail

class Sinks:
    def __init__(self, directory):
        self.processes = []
        self.dump = os.path.join(directory, "delivered")
        os.mkdir(self.dump)
        shutil.chown(self.dump, postfix_instance.OTHER)
        self.accept = self.start("-D", os.path.join(self.dump, "mail"))
        self.hard = self.start("-B", HOSTILE_HARD, "-f", "RCPT")
        self.full = self.start("-b", HOSTILE_SOFT, "-r", "RCPT")

    def start(self, *flags):
        port = held_port()
        # It refuses to be root, and becomes OTHER itself: the tree may lie where OTHER cannot go.
        self.processes.append(subprocess.Popen([command("smtp-sink"), "-u", postfix_instance.OTHER, *flags,
                                                "127.0.0.1:%d" % port, "256"],
                                               env=environment(), stdin=subprocess.DEVNULL,
                                               cwd=self.dump))
        return port

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)
            process.wait()


def start_postfix(directory, sinks):
    os.mkdir(directory)
    routes = {"accept.example": "smtp:[127.0.0.1]:%d" % sinks.accept, "hard.example": "smtp:[127.0.0.1]:%d" % sinks.hard,
              "full.example": "smtp:[127.0.0.1]:%d" % sinks.full, "dead.example": "smtp:[127.0.0.1]:%d" % held_port(),
              "soft.example": "softly:[127.0.0.1]:%d" % sinks.hard,
              "mail.example.com": "smtp:[127.0.0.1]:%d" % sinks.accept}
    instance = postfix_instance.Postfix(directory, """\
myhostname = mta1.example.net
transport_maps = inline:{ %s }
header_checks = pcre:%s/etc/header_checks
nested_header_checks =
mime_header_checks =
queue_run_delay = 3s
minimal_backoff_time = 3s
maximal_backoff_time = 5s
maximal_queue_lifetime = 12s
bounce_queue_lifetime = 12s
default_destination_concurrency_failed_cohort_limit = 3
""" % (", ".join("{%s=%s}" % route for route in routes.items()), directory))
    instance.write("header_checks", "/^X-SES-(CONFIGURATION-SET|MESSAGE-TAGS):/ STRIP\n/^(From|To|Subject|Date):/ INFO\n")
    with open(os.path.join(instance.config, "master.cf"), "a") as services:
        services.write("softly unix - - n - - smtp -o soft_bounce=yes\n")
    instance.start()
    return instance


def inject(instance, directory, part, load, messages):
    """smtp-source sends `messages` of one line of the load."""
    name, tags, domain, recipients, _ = load
    path = os.path.join(directory, "message-%d" % part)
    folded = tags[:1]
    headers = []
    for tag in tags[1:]:
        if tag.startswith(" "):
            folded.append(tag)
        else:
            headers.append("X-SES-MESSAGE-TAGS: %s" % tag)
    with open(path, "w") as out:
        out.write("From: Example News <news@mail.example.com>\nTo: list@%s.example\n"
                  "Subject: part %d, from x[1.2.3.4]; from=<y@z>\nX-SES-CONFIGURATION-SET: %s\n"
                  "X-SES-MESSAGE-TAGS: %s\n%sDate: Mon, 23 Nov 2026 04:00:00 +0000\n" %
                  (domain, part, name, "\n".join(folded), "".join(header + "\n" for header in headers)))
        if name == "bulk-a":
            out.write("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nHello\n--b\n"
                      "Content-Type: message/rfc822\n\n%s--b--\n" % ATTACHED)
        else:
            out.write("\nHello\n")
    # -N numbers the recipients within one run: `part` keeps them apart between runs.
    done = subprocess.run([command("smtp-source"), "-m", str(messages), "-s", "8", "-r", str(recipients), "-N",
                           "-f", "news@mail.example.com", "-t", "p%d@%s.example" % (part, domain), "-F", path,
                           "127.0.0.1:%d" % instance.port], env=environment(), capture_output=True, text=True)
    if done.returncode != 0:
        raise system.Failure("smtp-source: %s" % done.stderr)


# ------------------------------------------------------------------------------------------------ the log, by itself

OUTCOME = re.compile(r" postfix/(\w+)\[\d+\]: (\w+): to=<([^>]+)>, relay=([^,]+), (?:conn_use=\d+, )?delay=[\d.]+, "
                     r"delays=[\d./]+, dsn=([\d.]+), status=(\w+) \(")


def read_log(path):
    """What the log says, without a line of the feed's code: events as {type: set of (queue id, recipient)}."""
    lines = []
    for name in (path + ".1", path):
        with open(name, errors="replace") as log:
            lines += log.read().splitlines()
    senders, last, events = {}, {}, collections.defaultdict(set)
    deferred = 0
    for line in lines:
        sender = re.search(r" postfix/qmgr\[\d+\]: (\w+): from=<([^>]*)>, size=\d+, nrcpt=\d+ \(queue active\)$", line)
        if sender:
            senders[sender.group(1)] = sender.group(2)
            if sender.group(2):
                events["Send"].add((sender.group(1), None))
            continue
        expired = re.search(r" postfix/qmgr\[\d+\]: (\w+): from=<([^>]+)>, status=expired", line)
        if expired:
            for (queue_id, recipient), status in list(last.items()):
                if queue_id == expired.group(1) and status in ("deferred", "SOFTBOUNCE"):
                    events["Bounce"].add((queue_id, recipient))
            continue
        outcome = OUTCOME.search(line)
        if outcome and senders[outcome.group(2)]:
            key = (outcome.group(2), outcome.group(3))
            last[key] = outcome.group(6)
            deferred += outcome.group(6) in ("deferred", "SOFTBOUNCE")
            events[{"sent": "Delivery", "bounced": "Bounce", "deferred": "DeliveryDelay",
                    "SOFTBOUNCE": "DeliveryDelay"}[outcome.group(6)]].add(key)
    return lines, events, deferred


# ------------------------------------------------------------------------------------------------ anymail

def anymail_parser():
    import django
    from django.conf import settings
    settings.configure(ANYMAIL={"WEBHOOK_SECRET": "a:b"}, USE_TZ=True, SECRET_KEY="x", INSTALLED_APPS=["anymail"])
    django.setup()
    from anymail.webhooks.amazon_ses import AmazonSESTrackingWebhookView
    view = AmazonSESTrackingWebhookView()

    def parse(event):
        return view.esp_to_anymail_events(event, {"MessageId": "m", "Timestamp": "2026-11-23T00:00:00.000Z"})

    return parse


ANYMAIL = {"Send": "sent", "Delivery": "delivered", "Bounce": "bounced", "Complaint": "complained", "Reject": "rejected"}


def check_events(lines, logged):
    parse = anymail_parser()
    stored = collections.defaultdict(set)
    kinds = collections.Counter()
    parsed = collections.Counter()
    per_set = collections.Counter()
    tags = {}
    for text in set(lines):
        event = json.loads(text)
        kind, mail = event["eventType"], event["mail"]
        queue_id = mail["messageId"]
        if kind in ANYMAIL:
            for tracking in parse(event):
                if tracking.event_type != ANYMAIL[kind] or tracking.message_id != queue_id:
                    raise system.Failure("anymail takes %s for %s" % (kind, tracking.event_type))
                parsed[kind] += 1
        if kind == "Send":
            stored[kind].add((queue_id, None))
            name = mail["tags"]["ses:configuration-set"][0]
            per_set[name] += 1
            tags.setdefault(name, set()).add(json.dumps({k: v for k, v in sorted(mail["tags"].items()) if k[:4] != "ses:" or
                                                         k.startswith("ses:feedback")}))
            continue
        recipients = {"Delivery": lambda: event["delivery"]["recipients"],
                      "Bounce": lambda: [r["emailAddress"] for r in event["bounce"]["bouncedRecipients"]],
                      "DeliveryDelay": lambda: [r["emailAddress"] for r in event["deliveryDelay"]["delayedRecipients"]],
                      }[kind]()
        for recipient in recipients:
            if (queue_id, recipient) in stored[kind]:
                raise system.Failure("two different %s of %s to %s" % (kind, queue_id, recipient))
            stored[kind].add((queue_id, recipient))
        if kind == "Bounce":
            bounce = event["bounce"]
            domain = recipients[0].split("@")[1]
            kinds[(domain, bounce["bounceType"], bounce["bounceSubType"])] += 1
            if domain in ("hard.example", "soft.example") and bounce["bouncedRecipients"][0]["diagnosticCode"] != "smtp; " + HOSTILE_HARD:
                raise system.Failure("diagnostic: %s" % bounce["bouncedRecipients"][0])
            if domain == "full.example" and "smtp; " + HOSTILE_SOFT.rsplit(" (in", 1)[0] not in \
                    bounce["bouncedRecipients"][0]["diagnosticCode"]:
                raise system.Failure("diagnostic: %s" % bounce["bouncedRecipients"][0])
        if kind == "DeliveryDelay":
            kinds[(recipients[0].split("@")[1], event["deliveryDelay"]["delayType"])] += 1
    for kind in ("Send", "Delivery", "Bounce", "DeliveryDelay"):
        system.check("%s: log says %d, stored" % (kind, len(logged[kind])), len(stored[kind]), len(logged[kind]))
        system.check("%s: the same messages and recipients" % kind, stored[kind] == logged[kind], True)
    system.check("other types stored", set(stored) - {"Send", "Delivery", "Bounce", "DeliveryDelay"}, set())
    system.check("anymail understood", dict(parsed), lambda seen: seen["Delivery"] == len(logged["Delivery"]) and
                 seen["Bounce"] == len(logged["Bounce"]) and seen["Send"] >= len(logged["Send"]))
    return kinds, per_set, tags


# ------------------------------------------------------------------------------------------------ the test

def start_feed(stack, instance, name):
    return stack.start(name, [stack.sendring, "feed", "--from", "postfix", "--follow", instance.log, "--checkpoint",
                              stack.path("feed.checkpoint"), "--socket", stack.socket, "--hostname", "mta1.example.net",
                              "--queue-lifetime", "12", "--json"])


def wait_feed(stack, instance):
    """Until the checkpoint is at the end of the log."""

    def at_end():
        try:
            with open(stack.path("feed.checkpoint")) as checkpoint:
                seen = json.load(checkpoint)
        except OSError:
            return False
        status = os.stat(instance.log)
        return seen["inode"] == status.st_ino and seen["offset"] == status.st_size

    system.wait_for("the feed to reach the end of the log", at_end, 60, 0.2)


def mail(stack, instance, messages):
    counts = [round(share * messages) for _, _, _, _, share in LOAD]
    counts[0] += messages - sum(counts)
    for part, (load, count) in enumerate(zip(LOAD, counts)):
        if part == 3:
            # The feed dies in the middle, and the log is rotated while it is away.
            system.check("the feed lives until it is killed", stack.stop("feed", signal.SIGKILL), -signal.SIGKILL)
            instance.rotate()
        inject(instance, stack.directory, part, load, count)
        if part == 4:
            start_feed(stack, instance, "feed-again")
    system.wait_for("Postfix's queue to empty", lambda: instance.queued() == 0, 120, 0.5)
    wait_feed(stack, instance)
    return counts


def with_mail(stack, moto, messages):
    os.chmod(stack.directory, 0o755)  # Postfix's processes are several users
    sinks = Sinks(stack.directory)
    instance = None
    try:
        instance = start_postfix(stack.path("postfix"), sinks)
        start_feed(stack, instance, "feed")
        counts = mail(stack, instance, messages)
    finally:
        if instance is not None:
            instance.stop()
        sinks.stop()
    wait_feed(stack, instance)
    system.check("the feed ends well on SIGTERM", stack.stop("feed-again"), 0)
    feed = json.loads(stack.log("feed-again").strip().splitlines()[-1])
    lines, logged, deferred = read_log(instance.log)
    system.check("log lines", len(lines), lambda n: n > 5 * messages)
    system.check("messages that Postfix took", len(logged["Send"]), messages)
    system.check("lines that the feed did not understand", feed["not_understood"], 0)
    system.check("outcomes of Postfix's own notifications, left out", feed["postfix"]["outcomes_notification"],
                 lambda n: n > 0)
    system.check("repeated delays, left out", feed["postfix"]["delays_suppressed"], lambda n: 0 < n <= deferred)
    books = stack.wait_drained(60)
    system.check("ledger balanced", books["balanced"], True)
    system.check("rejected", books["rejected"], 0)
    system.check("unmatched", books["unmatched"], 0)
    events = moto.events()
    # What was published since the last checkpoint: with few messages, that may be all of the first feed's.
    system.check("events published twice after the kill", len(events) - len(set(events)), lambda n: n < len(set(events)))
    kinds, per_set, tags = check_events(events, logged)
    expected_sets = collections.Counter()
    for load, count in zip(LOAD, counts):
        expected_sets[load[0]] += count
    system.check("messages per configuration set", dict(per_set), dict(expected_sets))
    system.check("tags of bulk-a", tags["bulk-a"], {'{"campaign": ["april"], "genre": ["sci-fi"]}'})
    system.check("tags of news, folded and from two headers",
                 '{"campaign": ["june"], "genre": ["crime"], "ses:feedback-id-a": ["list-7"]}' in tags["news"], True)
    system.check("how it is classified", sorted(kinds), [
        ("dead.example", "Transient", "General"), ("dead.example", "TransientCommunicationFailure"),
        ("full.example", "MailboxFull"), ("full.example", "Transient", "MailboxFull"),
        ("hard.example", "Permanent", "General"),
        ("soft.example", "RecipientServerError"), ("soft.example", "Transient", "General")])
    delivered = "".join(open(path, errors="replace").read() for path in glob.glob(sinks.dump + "/*"))
    # The attached messages are delivered as they came; their headers are in no event.
    attached = counts[0] + counts[3]
    system.check("attached messages, delivered", delivered.count("\nSubject: of the attached message\n"), lambda n: n >= attached)
    system.check("headers of attached messages in events", sum("inner" in event for event in events), 0)
    # A notification carries the message that it is about.
    system.check("delivered copies and returned ones", delivered.count("\nSubject: part "),
                 sum(counts[:4]) + len(logged["Bounce"]))
    system.check("X-SES headers of their own in them", delivered.count("\nX-SES-"),
                 2 * delivered.count("\nSubject: of the attached message\n"))


def main(build, quick):
    if not os.path.exists(os.path.join(postfix_instance.UNPACKED, "ready")):
        raise system.Failure("there is no Postfix below .deps: run scripts/setup --tests")
    messages = MESSAGES // 10 if quick else MESSAGES
    with system.Stack(build, name="postfix") as stack:
        moto = Moto(stack)
        system.check("moto refuses a wrong secret", moto.refuses, lambda code: code != "nothing")
        stack.endpoint = moto.endpoint
        stack.write_configuration(sets=["bulk-a", "bulk-b", "news"])
        stack.start_router(env={"AWS_ACCESS_KEY_ID": moto.key, "AWS_SECRET_ACCESS_KEY": moto.secret})
        with_mail(stack, moto, messages)
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)


def become_root():
    """Postfix is several users: again by sudo, where that asks for nothing, or in a user namespace with a range of ids."""
    again = [sys.executable, "-B"] + sys.argv
    kept = ["%s=%s" % (name, os.environ[name]) for name in ("SENDRING_TEST_DIRECTORY", "SENDRING_SKIPPED", "PATH")
            if name in os.environ]
    inside = ["unshare", "--user", "--map-root-user", "--map-auto"]
    for there_is, outside in (("sudo", ["sudo", "-n"]), ("newuidmap", inside)):
        if shutil.which(there_is) and subprocess.run(outside + ["true"], capture_output=True).returncode == 0:
            os.execvp(outside[0], outside + ["env"] + kept + again)
    system.skipped("postfix", "needs root: sudo without a password, or newuidmap and a range in /etc/subuid")
    sys.exit(0)


if os.getuid() != 0:
    become_root()
system.run(main)
