"""Producers are SIGKILLed 200 times at random: every committed event arrives, no garbage, no stall of the others."""
import system

KILLS = 200


def main(build, quick):
    kills = 40 if quick else KILLS
    with system.Stack(build, tls=True, name="producer-kill") as stack:
        stack.start_sink()
        stack.write_configuration()
        stack.start_router()
        load = stack.loadgen("--producers", "4", "--rate", "20000", "--seconds", str(kills * 0.08 + 4), "--kill-test",
                             "--counts", stack.path("counts"), "--kills", str(kills), "--kill-interval", "50")
        books = stack.wait_drained(60)
        report = stack.sink_report(stack.path("published.json"))
        stat = stack.stat()["counters"]
        system.check("kills", load["killed"], kills)
        system.check("published", load["published"], lambda n: n > kills)
        system.check("missing", report["missing"], 0)
        system.check("duplicated", report["duplicates"], 0)
        # A producer may die between its commit and its own count: one event each at most.
        system.check("committed, not counted by the killed", report["unexpected"], lambda n: n <= kills)
        system.check("rejected (garbage)", books["rejected"], 0)
        system.check("lane violations", stat["lanes_violations"], 0)
        system.check("ledger balanced", books["balanced"], True)
        system.check("accepted = published + uncounted", books["targets"][0]["accepted"],
                     load["published"] + report["unexpected"])
        system.check("lanes left", system.wait_for("lanes to be closed",
                                                   lambda: stack.stat()["counters"]["lanes_now"] == 0, 10), True)


system.run(main)
