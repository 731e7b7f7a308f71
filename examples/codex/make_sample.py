"""Write the codex sample: the wiki of an invented novel, its name indexes, and questions.

    python make_sample.py OUT_FOLDER

Promise: the same bytes every time. Chunks use the first of everybody's names only; the index files tell
the others, and questions use those: words alone do not lead from a question to its answer. The
world itself, written by hand, comes first; then how it is told.
"""

# ruff: noqa: E501 - a fact sheet is easiest to read in one line

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Record = dict[str, Any]

SEED = 20260803
PLAIN_WORDS = (
    *(
        "about",
        "above",
        "after",
        "against",
        "another",
        "around",
        "before",
        "below",
        "every",
        "holds",
    ),
    *("keeps", "moves", "never", "older", "points", "says", "shows", "stands", "their", "there"),
    *("through", "until", "where", "which", "whoever", "within", "without"),
)


class Thing(NamedTuple):
    """Something of the world that is no person."""

    name: str
    aliases: tuple[str, str]
    told: tuple[str, str]
    """Two sentences about it, in this order."""


class Person(NamedTuple):
    """A character: what they are called, what they do, and three things that happened."""

    name: str
    aliases: tuple[str, str]
    trade: str
    deeds: tuple[str, str, str]


# fmt: off
PLACES = (
    Thing("Harrowgate Isle", ("the Island of Bells", "Ninebell Rock"), ("Harrowgate Isle rises from the grey shallows where nine bell buoys mark the reef", "it pays its taxes in whale oil and knotted rope")),
    Thing("Velmoor", ("the City of Stairs", "Old Thousandstep"), ("Velmoor climbs a cliff in forty terraces, each older than the one above", "it has no wheels within its walls, for no street is level")),
    Thing("the Ashen Fens", ("the Burnt Marsh", "Cinderwater"), ("the Ashen Fens smoulder under their reeds through every dry season", "they hide the causeways of a drowned kingdom")),
    Thing("Tarrin Hollow", ("the Beekeepers' Vale", "Honeydeep"), ("Tarrin Hollow lies between two ridges of lavender and hives", "it sells wax to every scribe in the south")),
    Thing("Kestrel Watch", ("the Wind Fort", "the Hawk's Shelf"), ("Kestrel Watch stands on a ledge where the pass narrows to a cart's width", "it lights a blue fire when strangers come by night")),
    Thing("Orrin Deep", ("the Silent Mine", "Lowest Town"), ("Orrin Deep is a town hung on chains inside a worked-out silver shaft", "it keeps no clocks, since the sun never reaches it")),
    Thing("Sabelle", ("the Glass Harbour", "Port Lantern"), ("Sabelle blows green glass for every lighthouse on the coast", "it closes its harbour with a chain of hollow floats")),
    Thing("the Moth Library", ("the House of Wings", "the Quiet Stacks"), ("the Moth Library keeps its books in cedar wells against damp and flame", "it lends nothing, but copies anything for a secret")),
    Thing("Dunmarrow", ("the Grave of Kings", "Crownbarrow"), ("Dunmarrow is a field of forty mounds, each with a door of slate", "it is guarded by families who may not speak there")),
    Thing("Elder Quay", ("the First Landing", "Whalebone Wharf"), ("Elder Quay was built from the ribs of a leviathan before the city had walls", "it floods at each spring tide and is swept by children")),
    Thing("the Saltway", ("the White Road", "Porters' Path"), ("the Saltway crosses the desert on planks laid over brine", "it sings under the feet of heavy caravans")),
    Thing("Rimehold", ("the Winter Court", "Castle Icicle"), ("Rimehold is carved into a glacier that moves one yard each year", "it loses a tower to the sea in every reign")),
    Thing("Cobb's Crossing", ("the Ferry Town", "Two Ropes"), ("Cobb's Crossing grew around a ferry that is pulled by oxen on both banks", "it taxes songs as well as goods")),
    Thing("the Thorn Orchard", ("the Hedge of Knives", "Bramble Garden"), ("the Thorn Orchard bears a fruit that can be picked only at dusk", "it was planted to hide the road to a hermit's well")),
    Thing("Lastlight", ("the Western Beacon", "World's Edge Tower"), ("Lastlight burns on the final rock before the uncharted sea", "it has been tended by one family for eleven generations")),
    Thing("Mirefold", ("the Weavers' Warren", "Loomtown"), ("Mirefold shares one roof of tarred canvas among a thousand looms", "it falls silent for a day when a weaver dies")),
)

ORDERS = (
    Thing("the Ninth Oar", ("the Rowers' Brotherhood", "the Blistered Hand"), ("the Ninth Oar is a guild of pilots who never learn to read", "it swears in new members on a moving deck")),
    Thing("the Lantern Court", ("the Night Judges", "the Bench of Flames"), ("the Lantern Court hears only cases that happened after dark", "it sits until its candle is burnt, whatever is left to say")),
    Thing("the Quiet Tally", ("the Counters of Debts", "the Grey Ledger"), ("the Quiet Tally remembers every favour that was ever owed", "it writes nothing down, so its elders are well guarded")),
    Thing("the Hedge Sisters", ("the Thornwives", "the Bramble Sisterhood"), ("the Hedge Sisters heal with bark, smoke and stern advice", "they take no coin, only a day's work in their gardens")),
    Thing("the Iron Choir", ("the Singing Smiths", "the Anvil Throats"), ("the Iron Choir tunes blades to a note that its members share", "it forbids a smith to work alone")),
    Thing("the Veiled Cartographers", ("the Map Thieves", "the Blindfold Surveyors"), ("the Veiled Cartographers draw coasts from the memory of birds", "they burn the first copy of each map")),
    Thing("the Ash Wardens", ("the Marsh Guard", "the Cinder Company"), ("the Ash Wardens walk the smoking reeds with wet cloaks and long hooks", "they were founded by three widows in a single night")),
    Thing("the Moon Tithe", ("the Silver Collectors", "the Tax of Tides"), ("the Moon Tithe gathers one coin from each harbour at every full moon", "it spends all it gathers on lighthouses")),
)

MAGIC = (
    Thing("tidecalling", ("the Water Summons", "brine speech"), ("tidecalling draws the sea up a beach by humming below hearing", "it costs the caller the taste of salt")),
    Thing("lampreading", ("the Flame Sight", "wick divination"), ("lampreading finds a lost thing in the way a flame leans", "it fails when the seeker is the one who hid it")),
    Thing("knotbinding", ("the Rope Art", "the Hemp Craft"), ("knotbinding holds a promise in a cord until the cord is cut", "it was forbidden to judges after the rope trials")),
    Thing("stonesleep", ("the Long Rest", "statue trance"), ("stonesleep lets a body stand without breath for a season", "it leaves grey fingertips that never warm")),
    Thing("mothtongue", ("the Dust Language", "wing whisper"), ("mothtongue carries a message on a moth that finds one person only", "it is spoken with the eyelids")),
    Thing("bellwarding", ("the Bronze Shield", "the Chime Wall"), ("bellwarding keeps the drowned from walking past a rung circle", "it breaks if any bell in the ring is cracked")),
    Thing("ashwriting", ("the Burnt Script", "soot letters"), ("ashwriting shows on the skin what a burnt page once said", "it fades with the next rain")),
    Thing("shadowlending", ("the Dark Loan", "the Borrowed Shade"), ("shadowlending hands one's shadow to another for a night", "it must be paid back before the cock crows")),
    Thing("rootwalking", ("the Green Passage", "the Tree Road"), ("rootwalking steps from one old oak to another of the same seed", "it ages the walker by a day for each mile")),
    Thing("frostsong", ("the Winter Hymn", "rime chant"), ("frostsong freezes still water in the shape of a tune", "it cannot be sung twice by the same voice in one winter")),
)

ARTIFACTS = (
    Thing("the Drowned Crown", ("the Kelp Circlet", "the Sunken Diadem"), ("the Drowned Crown was hauled up in a herring net with pearls grown over its points", "it weighs more each time that its wearer lies")),
    Thing("Marrowlight", ("the Bone Lamp", "the Saint's Candle"), ("Marrowlight is a lamp that was carved from a leviathan's tooth", "it burns without oil near running water")),
    Thing("the Seventh Astrolabe", ("the Crooked Star Wheel", "the Liar's Compass"), ("the Seventh Astrolabe points to where a star will fall", "it was made with one ring too many, and nobody knows which")),
    Thing("the Widow's Anchor", ("the Black Grapnel", "the Weight of Grief"), ("the Widow's Anchor holds any ship, even in open air", "it must be named aloud before it is raised")),
    Thing("Thistledown", ("the Feather Blade", "the Weightless Sword"), ("Thistledown is a sword so light that it floats", "it cuts only what its bearer is looking at")),
    Thing("the Ledger of Breath", ("the Book of Sighs", "the Living Register"), ("the Ledger of Breath lists everyone who is alive in the city", "it turns its own pages when a child is born")),
    Thing("the Hollow Bell", ("the Voiceless Gong", "the Dumb Bronze"), ("the Hollow Bell makes no sound, yet every dog for miles lies down", "it was cast with a hair of each founder")),
    Thing("the Mirror of Orrin", ("the Miner's Glass", "the Looking Ore"), ("the Mirror of Orrin shows the room as it was a year ago", "it was polished from the last silver of the shaft")),
)

PROPHECIES = (
    Thing("the Foretelling of Three Tides", ("the Triple Flood Verse", "the Fisher's Riddle"), ("the Foretelling of Three Tides says that the sea will come once for the bread, once for the bell and once for the child", "it was first heard from a net mender with a fever")),
    Thing("the Oath of the Last Lamp", ("the Keeper's Doom", "the Dark Coast Saying"), ("the Oath of the Last Lamp warns that no ship returns once the western fire has been lit by a stranger", "it is cut into the lowest step of a tower")),
    Thing("the Song of Split Silver", ("the Broken Coin Ballad", "the Two Halves Rhyme"), ("the Song of Split Silver promises the crown to whoever joins a coin that was cut before the war", "it has a verse that only miners know")),
    Thing("the Blind Map", ("the Eyeless Chart", "the Coast Not Yet Seen"), ("the Blind Map tells of a shore that can be reached only by a pilot who has given up maps", "it is recited with closed eyes")),
    Thing("the Reckoning of Reeds", ("the Marsh Judgement", "the Smoke Omen"), ("the Reckoning of Reeds foresees a fire that asks each family for one true name", "it was found in ash upon a warden's arm")),
    Thing("the Ninefold Silence", ("the Hush of Bells", "the Quiet Prediction"), ("the Ninefold Silence holds that nine bells will fail before the drowned king is at rest", "it is never spoken on the island itself")),
)

PEOPLE = (
    Person("Ysolde Marrin", ("the Salt Widow", "Captain Ninefathom"), "harbour pilot", ("brought forty ships through a fog without a chart", "refused the governor's pardon on the open deck", "cut the harbour chain to let the plague boats out")),
    Person("Corvin Hale", ("the Stair Prince", "the Terrace Heir"), "youngest son of a ruling house", ("gave up his title for a bridge toll", "walked every terrace barefoot in one night", "hid the census from the tax riders")),
    Person("Brannoch Dunn", ("the Wet Cloak", "Old Cinderbeard"), "marsh warden", ("carried eleven children across the burning reeds", "buried his own name under a causeway", "put out the great peat fire with a borrowed tide")),
    Person("Ilse Tarrow", ("the Wax Lady", "Mother of Hives"), "beekeeper", ("sealed a treaty with a live queen bee", "drove out the tithe riders with smoke", "taught a deaf king to read by scent")),
    Person("Perrin Vost", ("the Blue Fire Sergeant", "the Hawk Boy"), "signal keeper", ("held the pass with four men and a painted drum", "lit the wrong fire and saved a city by it", "tamed the last grey kestrel")),
    Person("Nella Orrin", ("the Chain Walker", "Daughter of the Shaft"), "mine engineer", ("hung a school from a single cable", "counted the dead by the sound of their lamps", "opened the sealed gallery with a spoon")),
    Person("Maud Sabel", ("the Green Glazier", "Lens Mother"), "glassblower", ("ground a lens that set an enemy sail alight", "broke her finest window to free a trapped gull", "sold the same mirror to three admirals")),
    Person("Tobias Fenn", ("the Moth Clerk", "Brother Paperdust"), "copyist", ("memorised a banned book in one sitting", "traded his childhood secret for a single page", "flooded the cedar wells to stop a thief")),
    Person("Aldith Crowe", ("the Silent Shepherdess", "Keeper Slate"), "barrow guardian", ("kept her vow of silence through her own trial", "slept a winter inside a king's mound", "found the forty-first door")),
    Person("Joss Quill", ("the Tidesweeper", "the Broom Captain"), "dock child and later harbour master", ("swept a forgotten anchor out of the silt", "won a warship in a wager about crabs", "closed the wharf on a feast day and was thanked for it")),
    Person("Samira Oud", ("the Plank Queen", "She Who Sings the Boards"), "caravan leader", ("crossed the brine in a moonless week", "tuned the whole road to one chord", "paid a ransom in drinking water")),
    Person("Halvard Rime", ("the Melting King", "the Last of Winter"), "ruler of the glacier court", ("moved his throne each spring to dry ice", "abdicated in favour of a weather clerk", "walked out on the sea at the end of his reign")),
    Person("Cobb Arlen", ("the Ox Ferryman", "Rope-and-a-Half"), "ferryman", ("carried two armies on the same day and charged both", "taxed a lullaby by mistake", "pulled the ferry alone when the oxen drowned")),
    Person("Wren Bramble", ("the Dusk Picker", "the Hermit's Niece"), "orchard keeper", ("picked the thorn fruit blindfolded", "led the lost embassy in a circle for nine days", "grafted an oak on a rose")),
    Person("Edrik Last", ("the Eleventh Keeper", "the Man at the Edge"), "lighthouse keeper", ("kept the fire burning with his own boat", "counted a ship that was not there", "wrote to the sea each night and was once answered")),
    Person("Odile Loom", ("the Loom Stopper", "the Tar-Roof Weaver"), "weaver", ("wove a sail with a map in it", "stopped a thousand looms with a raised hand", "unpicked a royal banner thread by thread")),
    Person("Judge Amaro", ("the Candle Burner", "the Short-Wick Magistrate"), "night judge", ("sentenced his own brother by a guttering flame", "ruled that moonlight is no witness", "let a case go out with the candle")),
    Person("Hesper Tally", ("the Woman Who Forgets Nothing", "the Grey Creditor"), "keeper of debts", ("called in a favour three centuries old", "forgave one debt and never told which", "bought a city with a promise")),
    Person("Sister Rue", ("the Bark Healer", "the Stern Physician"), "herbalist", ("cured the sleeping village with nettle smoke", "hid a deserter among her beans", "set the admiral's leg and sent him to weed")),
    Person("Garrick Toll", ("the Singing Smith", "the One-Note Master"), "swordsmith", ("forged a blade to the pitch of a cricket", "lost his voice and tuned by touch", "melted the tyrant's bell into ploughs")),
    Person("Imre Vale", ("the Blindfolded Surveyor", "the Bird Rememberer"), "mapmaker", ("drew a coast from the flight of terns", "burned the only true chart of the reef", "sold the governor a map of a dream")),
    Person("Petra Ash", ("the Reed Widow", "the Long Hook"), "founder of a guard", ("drew her husband's boat from the fire", "signed the first roll with a burnt reed", "asked the marsh for its name")),
    Person("Lucan Moor", ("the Full Moon Collector", "Silverhand"), "tithe rider", ("gave a lighthouse back its own coin", "rode a hundred miles on one night's light", "lost the tithe in a river and dived until dawn")),
    Person("Bel Anchor", ("the Grapnel Girl", "the Salvager"), "diver", ("raised a ship by naming it", "found pearls in a drowned bakery", "held her breath for a whole prayer")),
    Person("Queen Ottoline", ("the Pearl Liar", "the Heavy-Headed"), "queen of the drowned house", ("wore the crown until it bent her neck", "told the truth once and stood up straight", "married her fleet to the sea")),
    Person("Rafe Thistle", ("the Looking Duellist", "Featherarm"), "swordsman", ("fought a duel with his eyes closed and lost", "cut a rope at two hundred paces", "threw his sword in the air, where it stayed")),
    Person("Anselm Dray", ("the Star Loser", "the Crooked Astronomer"), "astronomer", ("predicted the wrong comet in the right year", "added a ring to his instrument for love", "named a star after a creditor")),
    Person("Mirabel Quen", ("the Tooth Carver", "Lampmother"), "lamp carver", ("carved a light from a leviathan", "walked into the river to see it shine", "refused to sell light to the blind king")),
    Person("Old Hendry", ("the Fevered Net Mender", "the Rhyming Fisher"), "net mender", ("spoke a verse that he could not remember", "mended the governor's net with hair", "foretold his own recovery by a day")),
    Person("Thessaly Wick", ("the Flame Leaner", "Finder of Rings"), "lamp reader", ("found a crown in a bread oven", "could not find her own daughter", "read a fire that had been out for years")),
)

CHAPTERS = (
    "The Fog at Noon", "A Chain of Hollow Floats", "What the Net Brought Up", "Forty Terraces", "The Candle Case",
    "Smoke in the Reeds", "The Wax Treaty", "Blue Fire", "A Debt of Three Centuries", "The Cedar Wells",
    "The Forty-First Door", "Boards that Sing", "Dry Ice", "Two Armies and an Ox", "The Circle of Thorns",
    "A Ship That Was Not There", "The Unpicked Banner", "Moonlight Is No Witness", "Nettle Smoke", "The Pitch of a Cricket",
    "Terns", "The Third Widow", "Silver in the River", "The Naming of the Wreck", "The Bent Neck",
    "The Sword That Stayed", "One Ring Too Many", "Light for a Blind King", "The Net Mender's Fever", "The Third Tide",
)
# fmt: on

KINDS: dict[str, tuple[Thing, ...]] = {
    "place": PLACES,
    "concept": ORDERS,
    "magic": MAGIC,
    "artifact": ARTIFACTS,
    "prophecy": PROPHECIES,
}


class Life(NamedTuple):
    """What a character is tied to, and the chapter in which each deed is told."""

    home: Thing
    order: Thing
    art: Thing
    keeps: Thing
    rival: Person
    friend: Person
    chapters: tuple[int, int, int]


def life(number: int) -> Life:
    """The ties of a character; they follow from the seed and the name."""
    name = PEOPLE[number].name
    draw = random.Random(f"{SEED} {name}")
    others = [person for person in PEOPLE if person.name != name]
    rival, friend = draw.sample(others, 2)
    first = draw.randrange(1, 12)
    return Life(
        PLACES[(number * 5 + 3) % len(PLACES)],
        ORDERS[(number * 3 + 1) % len(ORDERS)],
        MAGIC[(number * 7 + 2) % len(MAGIC)],
        ARTIFACTS[(number * 5 + number // 8) % len(ARTIFACTS)],
        rival,
        friend,
        (first, first + draw.randrange(5, 9), first + draw.randrange(10, 18)),
    )


def slug(name: str) -> str:
    """A name as a part of a filename."""
    return name.lower().replace("'", "").replace(" ", "-")


def filename(kind: str, name: str) -> str:
    """Where the wiki page of an entity is."""
    return f"{kind}/{slug(name)}.md"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def chunk(kind: str, name: str, text: str, order: int, **mentions: list[str]) -> Record:
    """A chunk of a page; `mentions` are lists of names by kind."""
    lists = {f"{what}_mentions": list(dict.fromkeys(names)) for what, names in mentions.items()}
    return {
        "text": text,
        "filename": filename(kind, name),
        "wiki_type": kind,
        "temporal_order": order,
        **lists,
    }


def pages_of(number: int) -> Iterator[Record]:
    """Five chunks about a character."""
    person, ties = PEOPLE[number], life(number)
    name, last = person.name, person.name.split()[-1]
    one, two, three = person.deeds
    start, middle, end = ties.chapters
    yield chunk(
        "character", name,
        f"{name} ({person.trade}) was born in {ties.home.name}. Those who met {last} early "
        f"remember someone who listened first and spoke last.",
        start, character=[name], place=[ties.home.name],
    )  # fmt: skip
    yield chunk(
        "character", name,
        f"{name} serves {ties.order.name}, and is trusted there more than liked. "
        f"It was {name} who {one}.",
        start, character=[name], concept=[ties.order.name],
    )  # fmt: skip
    yield chunk(
        "character", name,
        f"The gift of {name} is {ties.art.name}, learned late and at a price. With its help, or in "
        f"spite of it, {last} {two}.",
        middle, character=[name], magic=[ties.art.name],
    )  # fmt: skip
    yield chunk(
        "character", name,
        f"In later years {name} kept {ties.keeps.name} under lock and told nobody why. In that time "
        f"{last} {three}.",
        end, character=[name], artifact=[ties.keeps.name],
    )  # fmt: skip
    yield chunk(
        "character", name,
        f"{name} never forgave {ties.rival.name}, and would have died for {ties.friend.name}. "
        f"Both were known in {ties.home.name}, where the quarrel is still acted at fairs.",
        end, character=[name, ties.rival.name, ties.friend.name], place=[ties.home.name],
    )  # fmt: skip


def pages_about(kind: str, thing: Thing, number: int) -> Iterator[Record]:
    """Two chunks about what is no person: what it is, and who has to do with it."""
    draw = random.Random(f"{SEED} {thing.name}")
    known = [i for i in range(len(PEOPLE)) if thing in life(i)]
    names = [PEOPLE[i].name for i in known] or [draw.choice(PEOPLE).name]
    place = draw.choice(PLACES).name
    order = 1 + number % len(CHAPTERS)
    first, second = thing.told
    text = f"{sentence(first)} {sentence(second)}"
    yield chunk(kind, thing.name, text, order, **{kind: [thing.name]})
    yield chunk(
        kind, thing.name,
        f"Whoever asks about {thing.name} hears of {' and of '.join(names[:3])}. Some say that it "
        f"all began in {place}, on the day when the ferries did not run.",
        order, **{kind: [thing.name], "character": names[:3], "place" if kind != "place" else
        "near": [place]},
    )  # fmt: skip


def chapter_pages(number: int) -> Iterator[Record]:
    """Three chunks about a chapter: who, where and what; each deed in the chapter that tells it."""
    draw = random.Random(f"{SEED} chapter {number}")
    title = CHAPTERS[number - 1]
    told = [
        (person.name, deed)
        for i, person in enumerate(PEOPLE)
        for deed, at in zip(person.deeds, life(i).chapters, strict=True)
        if at == number
    ]
    place, art = draw.choice(PLACES).name, draw.choice(MAGIC).name
    prophecy = PROPHECIES[number % len(PROPHECIES)].name
    people = [name for name, _ in told] or [draw.choice(PEOPLE).name]
    deeds = " ".join(f"This is the chapter in which {name} {deed}." for name, deed in told[:3])
    yield chunk(
        "chapter", title,
        f"Chapter {number}, {title}. The story moves to {place}. {deeds}".strip(),
        number, character=people[:3], place=[place],
    )  # fmt: skip
    yield chunk(
        "chapter", title,
        f"In {title} the rules of {art} are shown for what they cost. {people[0]} pays, and does "
        f"not complain, while {place} sleeps.",
        number, character=people[:1], magic=[art], place=[place],
    )  # fmt: skip
    yield chunk(
        "chapter", title,
        f"At the end of {title} somebody recites {prophecy}, and for the first time {people[-1]} "
        f"does not laugh.",
        number, character=people[-1:], prophecy=[prophecy],
    )  # fmt: skip


def all_chunks() -> list[Record]:
    """The whole wiki."""
    found = [c for i in range(len(PEOPLE)) for c in pages_of(i)]
    for kind, things in KINDS.items():
        found += [c for i, thing in enumerate(things) for c in pages_about(kind, thing, i)]
    return found + [c for n in range(1, len(CHAPTERS) + 1) for c in chapter_pages(n)]


def index_of(kind: str) -> Record:
    """The entities of a kind: name -> primary name, file and aliases."""
    entities: list[Person | Thing] = list(PEOPLE if kind == "character" else KINDS[kind])
    return {
        entity.name: {
            "primary_name": entity.name,
            "filename": filename(kind, entity.name),
            "wiki_type": kind,
            "aliases": list(entity.aliases),
        }
        for entity in entities
    }


def question(
    text: str, category: str, topics: list[str], difficulty: str, limit: int | None = None
) -> Record:
    """A question with what its answer must name."""
    timed = {} if limit is None else {"temporal_limit": limit}
    return {
        "question": text,
        "category": category,
        "expected_topics": topics,
        "difficulty": difficulty,
        **timed,
    }


def questions_about(number: int) -> Iterator[Record]:
    """Two questions about a character, of four kinds in turn."""
    person, ties = PEOPLE[number], life(number)
    one, two = person.aliases
    kinds = (
        question(f"Where did {one} come into the world?", "character", [person.name, ties.home.name], "medium"),
        question(f"Which company does {two} belong to?", "concept", [person.name, ties.order.name], "medium"),
        question(
            f"What talent does {one} have, as far as the middle of the story tells?", "magic",
            [person.name, ties.art.name], "hard", ties.chapters[1],
        ),
        question(f"What treasure was hidden by {two}?", "artifact", [person.name, ties.keeps.name], "hard"),
    )  # fmt: skip
    yield kinds[number % 4]
    yield kinds[(number + 2) % 4]


def questions_on(kind: str, thing: Thing, number: int) -> Record:
    """A question about what is no person."""
    alias = thing.aliases[number % 2]
    asked = {
        "place": "What sort of town or spot is {}?",
        "concept": "Who are the people of {}?",
        "magic": "What can be done with {}?",
        "artifact": "What is peculiar about {}?",
        "prophecy": "What does {} predict?",
    }[kind]
    own = {*slug(thing.name).split("-"), *PLAIN_WORDS}
    words = [word.strip(",.") for word in thing.told[0].split()]
    topics = [thing.name, *[w for w in words if len(w) > 4 and w.lower() not in own][-2:]]
    return question(asked.format(alias), kind, topics, "hard" if number % 3 else "easy")


def all_questions() -> list[Record]:
    """The question bank."""
    found = [q for i in range(len(PEOPLE)) for q in questions_about(i)]
    for kind, things in KINDS.items():
        found += [questions_on(kind, thing, i) for i, thing in enumerate(things)]
    return [{"question_id": f"c{n:03}", **q} for n, q in enumerate(found, start=1)]


def write(path: Path, text: str) -> None:
    """Write UTF-8 with plain line feeds."""
    path.write_bytes(text.encode())


def make_sample(out: Path) -> None:
    """Write the sample's data files into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(c, separators=(",", ":")) + "\n" for c in all_chunks()]
    write(out / "chunks.jsonl", "".join(lines))
    for kind in ("character", *KINDS):
        write(out / f"{kind}_index.json", json.dumps(index_of(kind), indent=1) + "\n")
    bank = {"questions": all_questions()}
    write(out / "questions.json", json.dumps(bank, indent=1) + "\n")


def main() -> None:
    """Read the arguments and build."""
    parser = argparse.ArgumentParser(description="Write the codex sample.")
    parser.add_argument("out", type=Path, help="folder to write the sample to")
    make_sample(parser.parse_args().out)


if __name__ == "__main__":
    main()
