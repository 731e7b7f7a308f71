"""More machines, parts, defects and wordings for manuals, written by hand as the sample's are.

A part has the name that people give it, and the manual's; a defect is seen in one wording and told
in another. Each defect of each part is a fault: questions and passages share few words beside the
machine's name.
"""

# ruff: noqa: E501 - a fault is easiest to read in one line

from __future__ import annotations

from examples.manuals.make_sample import DOMAINS, PASSAGES, QUESTIONS, Book, Domain, Fault

MACHINES: dict[str, tuple[tuple[str, str], ...]] = {
    "boilers": (("Ludlow Hotpot 8", "the canteen boiler"), ("Ludlow Hotpot 16", "the hospital boiler")),
    "conveyors": (("Garth Lift 4", "the bottle elevator"), ("Garth Lift 9", "the crate elevator")),
    "cooling": (("Selby Frost 2", "the bakery freezer"), ("Selby Frost 6", "the fish counter")),
    "forklifts": (("Oakham Lift 12", "the yard truck"), ("Oakham Lift 45", "the container truck")),
    "pumps": (("Hexham Jet 3", "the car wash pump"), ("Hexham Jet 7", "the quarry pump")),
    "welding": (("Redmire Pulse 250", "the pipe shop welder"), ("Redmire Pulse 350", "the frame welder")),
}  # fmt: skip
"""Beside the sample's: the name on the plate, and what people call it."""

PARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "boilers": (
        ("front panel", "control unit"),
        ("chimney pipe", "flue collar"),
        ("gas tap", "fuel shut-off valve"),
        ("little window", "inspection glass"),
        ("water clock", "flow sensor"),
        ("round pump", "circulator"),
        ("lower pipe", "return manifold"),
        ("wall dial", "room thermostat"),
    ),
    "conveyors": (
        ("big roll", "head pulley"),
        ("red rope", "emergency pull-cord switch"),
        ("motor box", "frequency drive"),
        ("side rail", "guide fence"),
        ("little lamp", "photoelectric barrier"),
        ("funnel", "loading hopper"),
        ("leg", "trestle"),
        ("brush", "belt cleaner"),
    ),
    "cooling": (
        ("box outside", "condensing unit"),
        ("wall remote", "setpoint controller"),
        ("copper pipe", "liquid line"),
        ("drain hose", "condensate siphon"),
        ("blower", "evaporator ventilator"),
        ("door strip", "gasket heater"),
        ("round can", "receiver vessel"),
        ("dust mat", "return air filter"),
    ),
    "forklifts": (
        ("dashboard", "instrument cluster"),
        ("horn", "acoustic warning device"),
        ("fork holder", "carriage plate"),
        ("pedal", "travel control unit"),
        ("belt buckle", "restraint lock"),
        ("back wheel", "steer axle hub"),
        ("charging socket", "traction battery connector"),
        ("roof lamp", "rotating beacon"),
    ),
    "pumps": (
        ("lid", "cover plate"),
        ("feed hose", "suction nozzle"),
        ("pressure hose", "discharge nozzle"),
        ("wire box", "terminal enclosure"),
        ("front dial", "pressure transmitter"),
        ("rubber joint", "flexible coupling"),
        ("bottom tap", "drain valve"),
        ("tail fan", "motor ventilator"),
    ),
    "welding": (
        ("ground clip", "work return clamp"),
        ("hand piece", "torch body"),
        ("wire wheel", "spool hub"),
        ("front knob", "current potentiometer"),
        ("bottle tap", "gas regulator"),
        ("foot switch", "remote control pedal"),
        ("rear plug", "mains connector"),
        ("water box", "recirculating cooler"),
    ),
}
"""What people call a part, and what the manual calls it."""

DEFECTS: tuple[tuple[tuple[str, str, str], Fault], ...] = (
    (
        ("has a {lay} too hot to hold", "burns my fingers at the {lay}", "smells scorched around its {lay}"),
        Fault("", "thermal overload of the {part}", "Clear its vents and wait until it is below {n} degrees", 35, 60),
    ),
    (
        ("has a {lay} that ticks like a clock", "buzzes whenever I lean on the {lay}", "lets its {lay} wobble about"),
        Fault("", "loosened fasteners at the {part}", "Secure them crosswise with {n} Nm", 6, 40),
    ),
    (
        ("has a {lay} that is stone dead", "acts as though no {lay} were fitted", "gives no sign of life at the {lay}"),
        Fault("", "an interrupted supply of the {part}", "Measure at its feed; {n} V must be present", 18, 28),
    ),
    (
        ("has puddles under its {lay}", "drips day and night from the {lay}", "soaks the rag I wrapped round its {lay}"),
        Fault("", "a perished gasket at the {part}", "Renew the gasket and compress it by {n} tenths of a millimetre", 3, 12),
    ),
    (
        ("has green crust on its {lay}", "grows white powder behind the {lay}", "shows furry metal inside its {lay}"),
        Fault("", "corroded contacts of the {part}", "Polish them until less than {n} milliohms remain", 5, 50),
    ),
    (
        ("has a {lay} that works only after a knock", "comes and goes when I wiggle the {lay}", "obeys its {lay} every third try"),
        Fault("", "an intermittent connection in the {part}", "Reseat the plug and prove it with a pull of {n} newtons", 10, 60),
    ),
)  # fmt: skip
"""What is seen of a part, in three wordings; what it is, and what to do."""

MORE_QUESTIONS = (
    "Does anyone know why {name} {seen}?",
    "Our customer says that {name} {seen}. Which repair is due?",
    "{name} {seen}; is it safe to go on?",
    "Called out because {name} {seen}, where do I start?",
    "How do I stop it when {name} {seen}?",
    "{name} {seen} again, what did we miss?",
)
MORE_PASSAGES = (
    "Service note for {model}. Observed cause: {cause}. Action: {remedy}. Record it in the log.",
    "{remedy}. This applies to the {model} when there is {cause}.",
    "{model}, section maintenance. Suspect {cause} first. {remedy}, and repeat the check after a week.",
    "If inspection of the {model} confirms {cause}: {remedy}. Only trained staff may open the housing.",
    "The warranty of the {model} covers {cause}. {remedy} before parts are ordered.",
)  # fmt: skip


def large_book() -> Book:
    """The sample's machines and faults and those of this file."""
    domains = {
        name: Domain(domain.machines + MACHINES[name], domain.faults + _faults(PARTS[name]))
        for name, domain in DOMAINS.items()
    }
    return Book(domains, QUESTIONS + MORE_QUESTIONS, PASSAGES + MORE_PASSAGES)


def _faults(parts: tuple[tuple[str, str], ...]) -> tuple[Fault, ...]:
    """Each defect of each part; parts that follow each other are seen in different wordings."""
    return tuple(
        fault._replace(
            seen=seen[(number + turn) % len(seen)].format(lay=lay),
            cause=fault.cause.format(part=part),
        )
        for number, (lay, part) in enumerate(parts)
        for turn, (seen, fault) in enumerate(DEFECTS)
    )
