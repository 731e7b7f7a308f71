"""Write the manuals sample: triplets of a technician's question and two passages of manuals.

    python make_sample.py OUT_FOLDER

Promise: the same bytes every time (of the table inside the gzip file). Technicians ask in their
words, manuals answer in theirs: the question names the machine and what is seen or heard, the
passage names the cause. The negative is about the same machine and another fault, or about the same
fault of another machine; every negative answers some other question.
"""

# ruff: noqa: E501 - a fault is easiest to read in one line

from __future__ import annotations

import argparse
import csv
import gzip
import io
import random
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

SEED = 20260802


class Fault(NamedTuple):
    """What is seen, what the manual calls it, and what it says to do; `{n}` is a number."""

    seen: str
    cause: str
    remedy: str
    lowest: int
    highest: int


class Domain(NamedTuple):
    """The machines of one trade (name on the plate, what people call it) and their faults."""

    machines: tuple[tuple[str, str], ...]
    faults: tuple[Fault, ...]


DOMAINS: dict[str, Domain] = {
    "pumps": Domain(
        (
            ("Brankel P20", "the small transfer pump"),
            ("Brankel P75", "the big transfer pump"),
            ("Ostrava-Lind 4C", "the four-stage booster"),
            ("Ostrava-Lind 6C", "the six-stage booster"),
            ("Merrow Sump 9", "the cellar pump"),
            ("Merrow Slurry 12", "the mud pump"),
            ("Tallis Dose A", "the acid metering pump"),
            ("Tallis Dose B", "the dye metering pump"),
            ("Quillon Fire 100", "the sprinkler pump"),
            ("Quillon Well 40", "the borehole pump"),
        ),
        (
            Fault("rattles like gravel", "cavitation at the impeller", "Raise the inlet head to {n} kPa", 40, 90),
            Fault("drips where the shaft comes out", "a worn mechanical seal", "Replace the seal faces and torque the gland to {n} Nm", 8, 24),
            Fault("runs but moves no liquid", "loss of prime", "Fill the casing and vent it for {n} seconds", 20, 90),
            Fault("gets too hot to touch", "operation against a closed discharge", "Open the bypass until {n} litres a minute return", 5, 30),
            Fault("trips its breaker when it starts", "a seized rotor", "Turn the coupling by hand; free it if it takes more than {n} Nm", 3, 15),
            Fault("gives less than it used to", "enlarged wear ring clearance", "Fit new rings when the gap exceeds {n} hundredths of a millimetre", 30, 80),
            Fault("shakes the floor", "coupling misalignment", "Align both halves to within {n} micrometres", 20, 60),
            Fault("hums without turning", "a missing supply phase", "Measure between the terminals; {n} V is the least allowed", 370, 395),
            Fault("starts and stops all the time", "a waterlogged pressure vessel", "Charge the vessel with air to {n} kPa", 120, 260),
            Fault("squeals at the far end", "dry bearings", "Inject {n} grams of lithium grease", 6, 28),
        ),
    ),
    "forklifts": Domain(
        (
            ("Garrod E15", "the narrow-aisle truck"),
            ("Garrod E30", "the three-tonne electric"),
            ("Hallam D25", "the yellow diesel"),
            ("Hallam D50", "the heavy diesel"),
            ("Pike Reach 8", "the reach truck"),
            ("Pike Reach 11", "the high-bay reach truck"),
            ("Corvane Stack 1", "the walk-behind stacker"),
            ("Corvane Pallet 2", "the powered pallet jack"),
            ("Dunmore Side 4", "the side loader"),
            ("Dunmore Tow 6", "the tow tractor"),
        ),
        (
            Fault("lets its load sink slowly", "internal leakage of the lift cylinder", "Renew the piston packing if it falls {n} mm in ten minutes", 20, 60),
            Fault("pulls to one side when it brakes", "oil on a brake lining", "Clean the drum and adjust the shoes to {n} tenths of a millimetre", 2, 6),
            Fault("goes flat before the shift ends", "sulphated battery cells", "Equalise the charge for {n} hours", 6, 14),
            Fault("is hard to steer", "low pressure at the priority valve", "Set the valve to {n} bar", 70, 120),
            Fault("jerks when it moves off", "a worn accelerator sensor", "Calibrate the idle signal to {n} millivolts", 400, 900),
            Fault("beeps and will not drive", "an open seat switch circuit", "Check the plug below the seat; it must read under {n} ohms", 2, 9),
            Fault("clanks when the forks go up", "a stretched lift chain", "Discard the chain when it is {n} mm longer over a metre", 18, 30),
            Fault("smells of burnt rubber", "a slipping fan belt", "Tension it until it gives {n} mm under the thumb", 8, 15),
            Fault("leaves black marks when it turns", "a locked drive axle differential", "Drain the axle and refill {n} litres of gear oil", 3, 8),
            Fault("tips its mast forward by itself", "a leaking tilt lock valve", "Replace the cartridge and tighten it to {n} Nm", 45, 85),
        ),
    ),
    "boilers": Domain(
        (
            ("Ashlar H60", "the laundry boiler"),
            ("Ashlar H90", "the kitchen boiler"),
            ("Fenwick Steam 2", "the small steam maker"),
            ("Fenwick Steam 5", "the large steam maker"),
            ("Calder Combi 28", "the flat's combi"),
            ("Calder Combi 40", "the house combi"),
            ("Rusk Pellet 15", "the wood pellet stove"),
            ("Rusk Pellet 35", "the barn's pellet burner"),
            ("Thane Oil 50", "the workshop oil burner"),
            ("Thane Oil 120", "the school's oil burner"),
        ),
        (
            Fault("goes out after a few seconds", "a weak flame signal", "Clean the electrode; the current must exceed {n} microamperes", 2, 9),
            Fault("bangs inside like a kettle", "scale on the heat exchanger", "Circulate descaling acid for {n} minutes", 30, 120),
            Fault("loses pressure every week", "a failed expansion diaphragm", "Precharge the vessel to {n} kPa", 75, 150),
            Fault("lights with a thump", "delayed ignition", "Set the spark gap to {n} tenths of a millimetre", 30, 50),
            Fault("makes the room smell of exhaust", "a blocked flue", "Sweep the stack until the draught is {n} pascals", 5, 20),
            Fault("gives lukewarm taps", "a stuck diverter valve", "Exercise the actuator over its full travel {n} times", 5, 20),
            Fault("never turns itself off", "a displaced sensor", "Push the probe {n} mm into its pocket", 40, 90),
            Fault("spits water from the side", "a lifting safety valve", "Reset the limit to {n} kPa and replace the seat", 250, 600),
            Fault("shows soot at the door", "lack of combustion air", "Open the damper until {n} percent oxygen is left", 3, 7),
            Fault("hums but no flame comes", "a closed fuel solenoid", "Check the coil; it should read {n} ohms", 800, 1900),
        ),
    ),
    "conveyors": Domain(
        (
            ("Varga Belt 300", "the packing line belt"),
            ("Varga Belt 600", "the luggage belt"),
            ("Lorne Roller 10", "the gravity rollers"),
            ("Lorne Roller 20", "the driven rollers"),
            ("Keld Screw 7", "the grain auger"),
            ("Keld Screw 14", "the cement auger"),
            ("Sorrel Bucket 3", "the bucket lift"),
            ("Sorrel Chain 5", "the drag chain"),
            ("Imber Sort 2", "the parcel sorter"),
            ("Imber Spiral 8", "the freezer spiral"),
        ),
        (
            Fault("wanders off to the left", "an untrue tail drum", "Move the take-up screw by {n} mm and watch one round", 2, 9),
            Fault("stops when it is loaded", "insufficient carrying tension", "Add {n} kg to the counterweight", 10, 60),
            Fault("screams at the drive end", "a dry gearbox", "Fill {n} litres of synthetic oil", 1, 6),
            Fault("drops things between sections", "an open transfer gap", "Close the plate to {n} mm", 3, 12),
            Fault("runs on after the button is hit", "a worn motor brake", "Set the air gap to {n} hundredths of a millimetre", 20, 60),
            Fault("counts one box as two", "a dirty light barrier", "Wipe the lens and set the delay to {n} milliseconds", 40, 200),
            Fault("has a flapping edge", "a torn splice", "Vulcanise the joint for {n} minutes", 15, 45),
            Fault("blows its fuse in the cold", "stiff grease in the idlers", "Heat the housing to {n} degrees before the start", 5, 25),
            Fault("shakes at full speed", "build-up on the return rollers", "Set the scraper to a pressure of {n} newtons", 30, 90),
            Fault("jumps a tooth now and then", "a worn sprocket", "Replace it when the hook is deeper than {n} tenths of a millimetre", 10, 30),
        ),
    ),
    "cooling": Domain(
        (
            ("Norrin Chill 12", "the milk cooler"),
            ("Norrin Chill 48", "the brewery chiller"),
            ("Eider Room 5", "the cold store unit"),
            ("Eider Room 9", "the deep-freeze unit"),
            ("Fallow Split 3", "the office air conditioner"),
            ("Fallow Split 7", "the server room unit"),
            ("Glaze Ice 20", "the flake ice machine"),
            ("Glaze Ice 60", "the cube ice machine"),
            ("Wharf Reefer 2", "the lorry's cooling box"),
            ("Wharf Tower 4", "the roof cooling tower"),
        ),
        (
            Fault("builds a block of frost", "a failed defrost heater", "Replace the element if it reads over {n} ohms", 60, 180),
            Fault("hisses and cools badly", "shortage of refrigerant", "Weigh in {n} grams after the leak is closed", 150, 950),
            Fault("switches off on hot days", "a fouled condenser", "Wash the fins and keep {n} cm free around them", 30, 90),
            Fault("leaks on the carpet", "a blocked condensate trap", "Flush the line with {n} litres of water", 1, 5),
            Fault("knocks when it comes on", "liquid slugging", "Warm the crankcase for {n} hours first", 4, 12),
            Fault("is cold on one side only", "an unbalanced distributor", "Set the superheat to {n} kelvin", 4, 10),
            Fault("smells musty", "growth in the drip tray", "Clean with biocide and let it stand {n} minutes", 10, 40),
            Fault("flickers the lights at start", "a weak run capacitor", "Fit one of {n} microfarads", 15, 60),
            Fault("shows the wrong temperature", "a drifting probe", "Compare in ice water; correct by no more than {n} tenths of a degree", 5, 20),
            Fault("whistles through the wall", "an incorrect expansion orifice", "Fit nozzle number {n}", 1, 8),
        ),
    ),
    "welding": Domain(
        (
            ("Steyne Arc 160", "the portable stick welder"),
            ("Steyne Arc 400", "the shipyard stick welder"),
            ("Obrin Wire 200", "the garage wire welder"),
            ("Obrin Wire 500", "the water-cooled wire welder"),
            ("Lumen TIG 180", "the fine-work welder"),
            ("Lumen TIG 300", "the aluminium welder"),
            ("Catch Spot 6", "the body shop spot welder"),
            ("Catch Spot 18", "the robot's spot gun"),
            ("Vesper Cut 40", "the small plasma cutter"),
            ("Vesper Cut 100", "the table plasma cutter"),
        ),
        (
            Fault("leaves pinholes in the seam", "insufficient shielding gas", "Set the flow to {n} litres a minute", 8, 18),
            Fault("sticks to the work", "too low an arc force", "Raise the setting to {n} percent", 20, 70),
            Fault("feeds in jerks", "a clogged liner", "Blow it out and set the rolls to {n} newtons", 20, 60),
            Fault("stops after ten minutes", "an exceeded duty cycle", "Let the fan run for {n} minutes", 5, 15),
            Fault("gives a tingle through the glove", "damaged lead insulation", "Reject the cable below {n} megohms", 1, 5),
            Fault("spatters everywhere", "excessive arc voltage", "Lower it to {n} V", 17, 27),
            Fault("burns through thin sheet", "a slow travel speed", "Move at {n} cm a minute", 30, 80),
            Fault("will not strike", "a contaminated tip", "Grind it to {n} degrees", 20, 60),
            Fault("draws a crooked line", "a magnetic arc blow", "Move the clamp {n} cm away from the joint", 20, 80),
            Fault("gurgles at the torch", "air in the coolant circuit", "Bleed the pump and fill {n} litres", 2, 9),
        ),
    ),
}  # fmt: skip

QUESTIONS = (
    "{name} {seen}, what should I check?",
    "Why is it that {name} {seen}?",
    "What do I do when {name} {seen}?",
    "{name} {seen} since yesterday. How can it be fixed?",
)

PASSAGES = (
    "{model}. The symptom points to {cause}. {remedy}.",
    "{model}, fault finding: {cause}. {remedy}, then run a test.",
    "On the {model} the usual reason is {cause}. {remedy}. Lock out the supply first.",
)


class Book(NamedTuple):
    """What triplets are made of: machines and faults, and wordings for them."""

    domains: Mapping[str, Domain]
    questions: tuple[str, ...]
    passages: tuple[str, ...]


class Case(NamedTuple):
    """A machine of a domain with a fault."""

    domain: str
    machine: int
    fault: int


SAMPLE = Book(DOMAINS, QUESTIONS, PASSAGES)


def passage(book: Book, case: Case) -> str:
    """What the manual of a machine says of a fault."""
    draw = random.Random(f"{SEED} passage {case.domain} {case.machine} {case.fault}")
    model = book.domains[case.domain].machines[case.machine][0]
    told = book.domains[case.domain].faults[case.fault]
    remedy = told.remedy.format(n=draw.randint(told.lowest, told.highest))
    return draw.choice(book.passages).format(model=model, cause=told.cause, remedy=remedy)


def question(book: Book, case: Case) -> str:
    """How a technician asks for it; the plate's name stands in it, what people call it too."""
    draw = random.Random(f"{SEED} question {case.domain} {case.machine} {case.fault}")
    model, called = book.domains[case.domain].machines[case.machine]
    seen = book.domains[case.domain].faults[case.fault].seen
    text = draw.choice(book.questions).format(name=f"{called} ({model})", seen=seen)
    return text[0].upper() + text[1:]


def wrong(book: Book, case: Case, asked: Collection[Case]) -> Case:
    """Another fault of the machine, or another machine with the fault, that is asked about too."""
    draw = random.Random(f"{SEED} negative {case.domain} {case.machine} {case.fault}")
    machines, faults = map(len, book.domains[case.domain])
    others = [case._replace(fault=(case.fault + i) % faults) for i in range(1, faults)]
    same = [case._replace(machine=(case.machine + i) % machines) for i in range(1, machines)]
    first, second = (others, same) if (case.machine + case.fault) % 2 else (same, others)
    choice = [other for other in first if other in asked]
    return draw.choice(choice or [other for other in second if other in asked])


def triplets(book: Book, cases: list[Case]) -> list[tuple[str, str, str, str]]:
    """A question, what answers it, what does not, and the domain; of each case."""
    asked = set(cases)
    return [
        (
            question(book, case),
            passage(book, case),
            passage(book, wrong(book, case, asked)),
            case.domain,
        )
        for case in cases
    ]


def cases_of(book: Book) -> list[Case]:
    """Every machine with every fault; the domains take turns."""
    machines, faults = map(len, next(iter(book.domains.values())))  # as many in every domain
    domains = sorted(book.domains)
    return [Case(d, m, f) for f in range(faults) for m in range(machines) for d in domains]


def write(rows: list[tuple[str, str, str, str]], path: Path) -> None:
    """Write triplets as a CSV file in a gzip file, with the same bytes every time."""
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["query", "positive", "negative", "domain"])
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as handle, gzip.GzipFile("", "wb", fileobj=handle, mtime=0) as packed:
        packed.write(table.getvalue().encode())


def make_sample(out: Path) -> None:
    """Write the sample's data file into `out`."""
    write(triplets(SAMPLE, cases_of(SAMPLE)), out / "triplets.csv.gz")


def main() -> None:
    """Read the arguments and build."""
    parser = argparse.ArgumentParser(description="Write the manuals sample.")
    parser.add_argument("out", type=Path, help="folder to write the sample to")
    make_sample(parser.parse_args().out)


if __name__ == "__main__":
    main()
