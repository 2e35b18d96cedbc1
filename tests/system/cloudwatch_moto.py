"""CloudWatch destinations, read back by boto3 from moto (signatures checked): the sums per metric and dimension set equal a
count of the published events by this script, from what the file destination wrote; also while the router is SIGKILLed ten
times. A proxy before moto writes down which requests were taken: one that was taken twice is the only thing that may be
counted twice, and only as often as the router says that it had no answer."""
import collections
import datetime
import gzip
import http.client
import http.server
import json
import os
import random
import re
import signal
import subprocess
import threading
import time

import system
import moto_aws

KILLS = 10
RATE = 150
EVENTS_UNKILLED = 1200
METRICS = {"Rendering Failure": "RenderingFailure"}  # the others are named as their event type
ALL_METRICS = ["Bounce", "Click", "Complaint", "Delivery", "DeliveryDelay", "Open", "Reject", "RenderingFailure", "Send",
               "Subscription"]
# What each destination counts by: name -> (dimensions with source and default, roll-ups or None, what is special)
DESTINATIONS = {
    "campaigns": ([("ses:configuration-set", "MESSAGE_TAG", "none"), ("stream", "MESSAGE_TAG", "none"),
                   ("mime-version", "EMAIL_HEADER", "none"), ("placement", "LINK_TAG", "none")],
                  [["ses:configuration-set", "stream"], ["mime-version"], ["stream", "placement"]], {}),
    "totals": ([("variant", "MESSAGE_TAG", "none")], [[]], {}),
    "small": ([("tenant", "MESSAGE_TAG", "none")], None, {"SeriesMax": 10, "OverflowValue": "more"}),
    "mailers": ([("X-Mailer", "EMAIL_HEADER", "none")], None, {}),
}
GOOD_VALUE = re.compile(r"[A-Za-z0-9_@.-]+\Z")


# ------------------------------------------------------------------------------------------------ the proxy

class Proxy:
    """Passes everything on to moto, or to a sink, some time up to `delay` before and after, and keeps the bodies that it took;
    beside each, what Content-Encoding said of it."""

    def __init__(self, moto, seed, delay):
        chance = random.Random(seed)
        proxy = self
        self.taken = []
        self.wire = []
        self.lock = threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(chance.uniform(0, delay))
                upstream = http.client.HTTPConnection("127.0.0.1", moto.port, timeout=60)
                upstream.putrequest("POST", self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    upstream.putheader(name, value)
                upstream.endheaders(body)
                answer = upstream.getresponse()
                content = answer.read()
                upstream.close()
                if answer.status == 200 and "PutMetricData" in self.headers.get("X-Amz-Target", self.path):
                    with proxy.lock:
                        proxy.wire.append((self.headers.get("Content-Encoding"), body))
                        proxy.taken.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip"
                                           else body)
                time.sleep(chance.uniform(0, delay))
                try:
                    self.send_response(answer.status)
                    self.send_header("Content-Type", answer.getheader("Content-Type", "application/x-amz-json-1.0"))
                    if answer.getheader("smithy-protocol"):
                        self.send_header("smithy-protocol", answer.getheader("smithy-protocol"))
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    pass  # the router has gone

            def log_message(self, *arguments):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                pass  # a router that was killed resets its connections

        self.server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def doubled(self):
        """Counts in requests that were taken again: {(namespace, metric, dimensions): count}, and how many requests."""
        extra, requests = collections.Counter(), 0
        for body, times in collections.Counter(self.taken).items():
            if times == 1:
                continue
            requests += times - 1
            for datum in json.loads(body)["MetricData"]:
                dimensions = tuple(sorted((d["Name"], d["Value"]) for d in datum.get("Dimensions", [])))
                extra[json.loads(body)["Namespace"], datum["MetricName"], dimensions] += (times - 1) * datum["Counts"][0]
        return extra, requests


# ------------------------------------------------------------------------------------------------ the count

def value_of(event, name, source, default):
    """A dimension's value as SES resolves it; None: no metric."""
    if source == "MESSAGE_TAG":
        values = event["mail"]["tags"].get(name, [])
        return values[0] if values else default
    if source == "LINK_TAG":
        values = (event.get("click", {}).get("linkTags") or {}).get(name, [])
        return values[0] if values else default
    for header in event["mail"].get("headers", []):
        if header["name"].lower() == name.lower():
            return header["value"] if GOOD_VALUE.match(header["value"]) else None
    return default


def count(events):
    """{(namespace, metric, dimensions): count}, and how many events have no metric at a destination."""
    sums, without = collections.Counter(), collections.Counter()
    for event in events:
        metric = METRICS.get(event["eventType"], event["eventType"])
        for destination, (dimensions, roll_ups, _) in DESTINATIONS.items():
            values = {d[0]: value_of(event, *d) for d in dimensions}
            counted = False
            for roll_up in roll_ups if roll_ups is not None else [[d[0] for d in dimensions]]:
                if any(values[name] is None for name in roll_up):
                    continue
                counted = True
                sums["Test/" + destination, metric, tuple(sorted((name, values[name]) for name in roll_up))] += 1
            without[destination] += not counted
    return sums, without


def read_events(stack):
    """Each event once: a killed router may write again what was not written down as written."""
    with open(stack.path("events.ndjson")) as lines:
        return [json.loads(line) for line in set(lines)]


# ------------------------------------------------------------------------------------------------ what moto has

def read_sums(moto, wanted):
    """What get_metric_data says of these series."""
    cloudwatch = moto.client("cloudwatch")
    now = datetime.datetime.now(datetime.timezone.utc)
    series, sums = sorted(wanted), {}
    for begin in range(0, len(series), 100):
        part = series[begin:begin + 100]
        queries = [{"Id": "q%d" % i, "MetricStat": {
            "Metric": {"Namespace": namespace, "MetricName": metric,
                       "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions]},
            "Period": 86400, "Stat": "Sum"}} for i, (namespace, metric, dimensions) in enumerate(part)]
        answer = cloudwatch.get_metric_data(MetricDataQueries=queries, StartTime=now - datetime.timedelta(hours=2),
                                            EndTime=now + datetime.timedelta(minutes=5))
        for result in answer["MetricDataResults"]:
            sums[part[int(result["Id"][1:])]] = int(sum(result["Values"]))
    return sums


def list_series(moto, namespace):
    pages = moto.client("cloudwatch").get_paginator("list_metrics").paginate(Namespace=namespace)
    return {(namespace, metric["MetricName"], tuple(sorted((d["Name"], d["Value"]) for d in metric["Dimensions"])))
            for page in pages for metric in page["Metrics"]}


# ------------------------------------------------------------------------------------------------ the test

def configure(stack, proxy, period):
    stack.endpoint = proxy.endpoint
    stack.write_configuration(firehose=False, file_destination=True,
                              settings="egress.retry_throttle_base_ms: 200\negress.retry_max_ms: 200\negress.endpoints: {cloudwatch: \"%s\"}\n"
                                       "router.lane_bytes: 8MiB\nrouter.lane_bytes_max: 8MiB" % proxy.endpoint)
    with open(stack.sets_file) as written:
        text = written.read()
    more = ""
    for name, (dimensions, roll_ups, extra) in DESTINATIONS.items():
        # This moto understands no CBOR, and its server unpacks gzip twice: other tests judge those.
        ours = dict({"Namespace": "Test/" + name, "Period": period, "Protocol": "json", "Compression": "none"}, **extra)
        if roll_ups is not None:
            ours["RollUps"] = roll_ups
        more += "  - EventDestinationName: %s\n    EventDestination: %s\n" % (name, json.dumps({
            "Enabled": True, "MatchingEventTypes": system.ALL_TYPES,
            "CloudWatchDestination": {"DimensionConfigurations": [
                {"DimensionName": d[0], "DimensionValueSource": d[1], "DefaultDimensionValue": d[2]}
                for d in dimensions]},
            "Sendring": ours}))
    with open(stack.sets_file, "w") as out:
        for block in re.split(r"(?m)^(?=- ConfigurationSetName)", text):
            out.write(block + (more if block.startswith("- ") else ""))


def check_moto(stack, moto, proxy, published, resent):
    """Everything that was published is in moto once, save what was taken twice."""
    events = read_events(stack)
    system.check("events in the file, each once", len(events), published)
    wanted, without = count(events)
    extra, doubled = proxy.doubled()
    system.check("requests taken twice (of %d without an answer)" % resent, doubled, lambda n: n <= resent)
    exact = {series: n + extra[series] for series, n in wanted.items() if series[0] != "Test/small"}
    seen = read_sums(moto, exact)
    wrong = [(series, seen.get(series), n) for series, n in exact.items() if seen.get(series) != n]
    system.check("series that differ from the count", wrong, [])
    system.check("series compared", len(exact), lambda n: n > 100)
    for name in ("campaigns", "totals", "small"):
        system.check("metrics of %s in moto" % name,
                     sorted({metric for _, metric, _ in list_series(moto, "Test/" + name)}), ALL_METRICS)
    for name in ("campaigns", "totals", "mailers"):
        listed = list_series(moto, "Test/" + name)
        system.check("series of %s listed otherwise" % name, sorted(listed ^ {s for s in exact if s[0] == "Test/" + name}),
                     [])
    # Over the budget: which series are admitted depends on who came first; the sums per metric do not.
    small = list_series(moto, "Test/small")
    totals, expected = collections.Counter(), collections.Counter()
    for (namespace, metric, dimensions), n in read_sums(moto, small).items():
        totals[metric] += n
        single = wanted[namespace, metric, dimensions] + extra[namespace, metric, dimensions]
        if dimensions[0][1] != "more" and n > single:
            raise system.Failure("%s %s: %d, more than were published" % (metric, dimensions, n))
    for (namespace, metric, dimensions), n in list(wanted.items()) + list(extra.items()):
        expected[metric] += n if namespace == "Test/small" else 0
    system.check("counts per metric of the small budget", dict(totals), dict(expected))
    return without


def targets(stack):
    return {re.search(r"namespace=Test/(\w+)", t["target"]).group(1): t for t in stack.stat()["targets"]
            if t["target"].startswith("cloudwatch ")}


def check_series(stack, moto, begun):
    """What `sendring stat` says of this hour, over every router that there was, is what CloudWatch lists and would bill."""
    listed = {name: len(list_series(moto, "Test/" + name)) for name in DESTINATIONS}
    seen = {name: target["series_hour"] for name, target in targets(stack).items()}
    # A budget is one of a clock hour: the next hour admits other series.
    hours = int(time.time() // 3600) - int(begun // 3600) + 1
    overflow = len(ALL_METRICS)
    system.check("series of the small budget, overflow ones beside it", listed["small"],
                 lambda n: 10 < n <= 10 * hours + overflow)
    if hours == 1:
        system.check("series of this hour in stat and in list_metrics", seen, listed)
    else:
        system.skipped("series in stat and in list_metrics", "a clock hour has begun meanwhile")


def check_books(stack, published, without):
    books = stack.wait_drained(60)
    system.check("ledger balanced", books["balanced"], True)
    seen = {re.search(r"namespace=Test/(\w+)", t["target"]).group(1): (t["accepted"], t["delivered"], t["shed"])
            for t in books["targets"] if t["target"].startswith("cloudwatch ")}
    system.check("accepted, delivered, without a metric", seen,
                 {name: (published, published - without[name], without[name]) for name in DESTINATIONS})


def unkilled(build, quick):
    begun = time.time()
    with system.Stack(build, name="cloudwatch") as stack:
        moto = moto_aws.Moto(stack)
        proxy = Proxy(moto, 1, 0.03)
        configure(stack, proxy, "1s")
        stack.start_router(env={"AWS_ACCESS_KEY_ID": moto.key, "AWS_SECRET_ACCESS_KEY": moto.wrong_secret()})
        load = stack.loadgen("--producers", "2", "--rate", "400", "--size", "large", "--mix", "all",
                             "--events", str(EVENTS_UNKILLED // (4 if quick else 1)))
        system.wait_for("a refusal", lambda: targets(stack)["totals"]["failures"] > 0, 20, 0.1)
        system.check("moto took nothing that was wrongly signed", len(proxy.taken), 0)
        system.check("the router ends well", stack.stop("router"), 0)
        stack.start_router(env={"AWS_ACCESS_KEY_ID": moto.key, "AWS_SECRET_ACCESS_KEY": moto.secret}, name="router-2")
        stack.wait_drained(60)
        without = check_moto(stack, moto, proxy, load["published"], 0)
        check_books(stack, load["published"], without)
        system.check("events without a metric: their header's value is not one", without["mailers"], lambda n: n > 100)
        told = [line for line in stack.log("router", lines=100000).splitlines() if "a value that is none" in line]
        system.check("the log says why, once", [re.search(r"dimension=(\S+) reason=\"(.*?)\"", line).groups() for line in told],
                     [("X-Mailer", "it has other characters than A-Za-z0-9_@-.")])
        check_series(stack, moto, begun)
        series = targets(stack)["small"]
        system.check("overflowed", series["series_overflowed"], lambda n: quick or n > 0)  # since this router's start
        system.check("estimated monthly cost", series["monthly_usd"], round(0.30 * max(series["series_hour"], series["series_hour_before"]), 2))
        system.check("the router ends well on SIGTERM", stack.stop("router-2"), 0)


def killed(build, quick):
    kills = 3 if quick else KILLS
    seed = int.from_bytes(os.urandom(4), "little")
    print("  seed: %d" % seed)
    chance = random.Random(seed)
    begun = time.time()
    with system.Stack(build, name="cloudwatch-kill") as stack:
        moto = moto_aws.Moto(stack)
        proxy = Proxy(moto, seed, 0.3)
        configure(stack, proxy, "1s")
        stack.start_router(env={"AWS_ACCESS_KEY_ID": moto.key, "AWS_SECRET_ACCESS_KEY": moto.secret})
        producers = subprocess.Popen(stack.loadgen_arguments(stack.path("published.json"), "--producers", "2",
                                                             "--size", "large", "--mix", "all", "--rate", str(RATE),
                                                             "--seconds", "600"),
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        dead = set()
        try:
            for _ in range(kills):
                time.sleep(chance.uniform(0.3, 2.2))
                pid = system.wait_for("a new router",
                                      lambda: stack.router_pid() if stack.router_pid() not in dead else 0, 30)
                os.kill(pid, signal.SIGKILL)
                dead.add(pid)
            system.wait_for("the last router", lambda: stack.router_pid() not in dead, 30)
            time.sleep(1)
        finally:
            producers.send_signal(signal.SIGTERM)
            out, errors = producers.communicate(timeout=60)
        system.check("producers end well", producers.returncode, 0)
        published = json.loads(out.strip().splitlines()[-1])["published"]
        system.check("published", published, lambda n: n > kills * RATE // 4)
        stack.wait_drained(60)
        time.sleep(0.7)  # the newest counts reach the counters page
        log = stack.log("router", lines=100000)
        went_on = log.count("a CloudWatch period goes on")
        # Each start says what it found without an answer; the last router's counter has its own ones once more.
        resent = log.count("ambiguous=resent")
        system.check("kills", len(dead), kills)
        system.check("periods that went on after a kill", went_on, lambda n: n > 0 or quick)
        system.check("requests that the last router sent again (of %d at all starts)" % resent,
                     stack.stat()["counters"]["cloudwatch_ambiguous_resent"], lambda n: n <= resent)
        check_series(stack, moto, begun)
        without = check_moto(stack, moto, proxy, published, resent)
        check_books(stack, published, without)
        system.check("closed periods that were counted again", log.count("is counted again"), 0)
        system.check("the router ends well on SIGTERM", stack.stop("router"), 0)


def main(build, quick):
    unkilled(build, quick)
    killed(build, quick)


if __name__ == "__main__":
    system.run(main)
