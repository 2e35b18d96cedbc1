"""4 producer processes, 2 million events over TLS to the sink: missing 0, duplicated 0, ledger balanced."""
import system

EVENTS = 2000000


def main(build, quick):
    events = EVENTS // 10 if quick else EVENTS
    with system.Stack(build, tls=True, name="path-tls") as stack:
        stack.start_sink()
        stack.write_configuration()
        stack.start_router()
        load = stack.loadgen("--producers", "4", "--events", str(events))
        books = stack.wait_drained(120)
        report = stack.sink_report(stack.path("published.json"))
        stat = stack.stat()["counters"]
        system.check("published", load["published"], events)
        system.check("stored", report["distinct"], events)
        system.check("missing", report["missing"], 0)
        system.check("duplicated", report["duplicates"], 0)
        system.check("ledger balanced", books["balanced"], True)
        target = books["targets"][0]
        system.check("accepted", target["accepted"], events)
        system.check("delivered", target["delivered"], events)
        system.check("router events", stat["router_events"], events)
        system.check("rejected", books["rejected"], 0)
        system.check("unmatched", books["unmatched"], 0)
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)


system.run(main)
