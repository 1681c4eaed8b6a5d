"""The 80 object categories of COCO, and the words people name them by.

The table is our own, written for captions; it is not the synonym file of CHAIR (Rohrbach et al. 2018), so figures made
with it are near to published ones, not equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Singular names by category; the category's own name and the plurals are added. What is both a thing and something
# else in most captions (the colour orange, a board, a bag) is left to _HINTS.
_NAMES = {
    "person": """man, woman, boy, girl, child, kid, baby, toddler, infant, adult, teenager, teen, youth, youngster,
        lady, guy, gentleman, dude, human, someone, somebody, males, females, couple, crowd, audience, family, mother,
        father, mom, dad, parent, son, daughter, brother, sister, sibling, husband, wife, friend, grandmother,
        grandfather, bride, groom, bridesmaid, player, athlete, runner, jogger, walker, swimmer, diver, climber,
        hiker, camper, rider, biker, cyclist, bicyclist, motorcyclist, skateboarder, skater, rollerblader,
        snowboarder, skier, surfer, windsurfer, wakeboarder, bodyboarder, kayaker, canoeist, rafter, paddler, rower,
        gymnast, acrobat, cheerleader, wrestler, teammate, opponent, goalie, quarterback, catcher, batsman, referee,
        umpire, coach, onlooker, spectator, bystander, pedestrian, passengers, tourist, traveler, visitor, shopper,
        customer, vendor, worker, employee, officer, policeman, policewoman, cop, fireman, firefighter, soldier,
        guard, lifeguard, sailor, pilot, conductor, driver, cowboy, cowgirl, jockey, equestrian, farmer, fisherman,
        hunter, trainer, skydiver, chef, waiter, waitress, bartender, barista, doctor, dentist, nurse, teacher,
        student, schoolgirl, schoolboy, businessman, businesswoman, artist, photographer, musician, guitarist,
        drummer, singer, dancer, performer, actor, actress, clown, racer, reporter, mechanic, carpenter, construction
        worker, people, baseball player, police officer, little one, fans""",
    "bicycle": "bike, mountain bike, bmx bike, road bike, tandem, bmx bicycle",
    "car": """automobile, sedan, suv, minivan, van, taxi, cab, taxicab, jeep, convertible, limousine, limo, racecar,
        station wagon, hatchback, police car""",
    "motorcycle": "motorbike, motor bike, motor cycle, moped, vespa, dirt bike, dirtbike, motor scooter, mini bike",
    "airplane": """plane, aeroplane, air plane, aircraft, airliner, jetliner, biplane, seaplane, jumbo jet, fighter
        jet, jet plane, passenger jet, jet airliner""",
    "bus": "busses, school bus, minibus, double decker, coach bus, tour bus, trolley bus, shuttle bus",
    "train": """locomotive, train car, subway car, train engine, steam engine, tram, streetcar, caboose, passenger
        train, monorail, subway train""",
    "truck": """pickup, pickup truck, pick up truck, firetruck, fire truck, fire engine, lorry, semi truck, dump
        truck, tow truck, truck bed, monster truck, tractor trailer, 18 wheeler""",
    "boat": """ship, sailboat, sail boat, canoe, kayak, rowboat, row boat, speedboat, motorboat, yacht, ferry,
        gondola, dinghy, tugboat, catamaran, fishing boat, banana boat, houseboat, barge""",
    "traffic light": "stoplight, stop light, traffic signal",
    "fire hydrant": "hydrant",
    "stop sign": "",
    "parking meter": "",
    "bench": "park bench",
    "bird": """duck, duckling, goose, seagull, gull, pigeon, parrot, eagle, hawk, owl, swan, rooster, hen, peacock,
        pelican, heron, penguin, flamingo, parakeet, ostrich, dove, sparrow, robin, hummingbird, woodpecker, stork,
        vulture, falcon, wild turkey, macaw, cockatoo, finch, songbird""",
    "cat": "kitten, kitty, feline, tabby",
    "dog": """puppy, pup, doggy, canine, hound, greyhound, poodle, terrier, collie, sheepdog, sheep dog, german
        shepherd, retriever, labrador, lab, husky, bulldog, pitbull, pit bull, beagle, dalmatian, doberman,
        rottweiler, spaniel, corgi, dachshund, chihuahua, mutt, schnauzer, pug, bull dog, bird dog""",
    "horse": "pony, foal, stallion, colt, bronco, racehorse, mare, race horse",
    "sheep": "lamb, ewe",
    "cow": "cattle, calf, bull, ox, heifer, longhorn",
    "elephant": "",
    "bear": "panda, grizzly, grizzly bear, polar bear, brown bear, black bear, panda bear, bear cub",
    "zebra": "",
    "giraffe": "",
    "backpack": "back pack, knapsack, rucksack, book bag, bookbag",
    "umbrella": "parasol",
    "handbag": "purse, hand bag, pocketbook",
    "tie": "necktie, neck tie, bow tie, bowtie",
    "suitcase": "suit case, luggage, baggage",
    "frisbee": "flying disc, frisbee disc",
    "skis": "ski, snow skis",
    "snowboard": "snow board",
    "sports ball": """ball, soccer ball, tennis ball, soccerball, beach ball, basket ball, rugby ball, golf ball,
        bowling ball, exercise ball, volley ball, foot ball, base ball, beachball""",
    "kite": "",
    "baseball bat": "bat",
    "baseball glove": "baseball mitt, mitt, catcher 's mitt, catchers mitt",
    "skateboard": "skate board",
    "surfboard": "surf board, boogie board, body board, bodyboard, paddle board, paddleboard",
    "tennis racket": "racket, racquet, tennis racquet",
    "bottle": "water bottle, wine bottle, beer bottle",
    "wine glass": "wineglass, champagne glass, glass of wine, glasses of wine",
    "cup": "mug, teacup, tea cup, coffee cup, cup of coffee, cups of coffee",
    "fork": "",
    "knife": "pocket knife",
    "spoon": "",
    "bowl": "",
    "banana": "",
    "apple": "",
    "sandwich": "burger, hamburger, cheeseburger, panini, grilled cheese",
    "orange": "",
    "broccoli": "",
    "carrot": "",
    "hot dog": "hotdog, chili dog",
    "pizza": "slice of pizza",
    "donut": "doughnut",
    "cake": "cupcake, cheesecake, carrot cake, birthday cake, wedding cake",
    "chair": """armchair, stool, recliner, lawn chair, rocking chair, high chair, highchair, deck chair, beach chair,
        folding chair, office chair""",
    "couch": "sofa, loveseat, love seat, futon, settee",
    "potted plant": "potted flower, potted tree, house plant, houseplant",
    "bed": "bunk bed",
    "dining table": "table, coffee table, picnic table, dinner table, kitchen table",
    "toilet": "toilet seat, toilet bowl, commode",
    "tv": "television, monitor, tv screen, television screen, computer screen, computer monitor, flat screen, tv set",
    "laptop": "laptop computer, computer, notebook computer, macbook",
    "mouse": "computer mouse",
    "remote": "remote control, wii remote, tv remote",
    "keyboard": "computer keyboard",
    "cell phone": "cellphone, phone, mobile phone, smartphone, smart phone, iphone",
    "microwave": "microwave oven",
    "oven": "stove, stovetop, stove top, stove top oven, toaster oven",
    "toaster": "",
    "sink": "wash basin, washbasin, kitchen sink, bathroom sink",
    "refrigerator": "fridge",
    "book": "textbook, comic book",
    "clock": "alarm clock",
    "vase": "",
    "scissors": "",
    "teddy bear": "teddy, stuffed bear, stuffed animal, stuffed toy, plush bear, toy bear",
    "hair drier": "hair dryer, hairdryer, hairdrier, blow dryer, blow drier",
    "toothbrush": "tooth brush",
}

# Names that hold the name of an object and mean another thing.
_OTHER_THINGS = """
    bed of, couple of, family of, team of, ties, baby stroller, baby carriage, baby carrier, baby pool, baby swing,
    baby seat, baby clothes, man made, mp3 player, cd player, dvd player, record player, visitor center, lady bug,
    bike rack, bike path, bike lane, bike trail, bike ramp, bike helmet, bike shop, bike race, bicycle rack, bicycle
    path, bicycle lane, bicycle helmet, bicycle race, quad bike, exercise bike, stationary bike, car seat, car park,
    cable car, bumper car, bus stop, bus station, bus shelter, train station, train track, train platform, train set,
    model train, truck stop, boat dock, boat ramp, boat house, jet ski, water skis, water ski, ski lift, ski slope,
    ski pole, ski jump, ski mask, ski resort, ski goggles, chair lift, bench press, bird house, bird bath, bird
    feeder, bird cage, rubber duck, rubber ducky, dog house, dog park, dog food, dog collar, dog bowl, prairie dog,
    corn dog, cat food, sea lion, sea horse, rocking horse, carousel horse, saw horse, horse shoe, gummy bear, zebra
    crossing, zebra print, tie dye, tie dyed, umbrella stand, remote controlled, remote area, remote location, kite
    surfing, ball pit, ball game, ball gown, disco ball, snow ball, world cup, suction cup, fork lift, flower bed,
    river bed, bed room, wheel chair, table tennis, pool table, table cloth, toilet paper, toilet brush, computer
    desk, apple tree, apple pie, apple juice, banana bread, phone booth, pay phone, phone pole, dutch oven, book
    shelf, book case, book store, mickey mouse, cake pan, snow man, pan cake, baby doll, baby powder, knife block,
    toilet roll, bottle cap, head phone, guard rail, mouse pad, cup holder, ceiling fan, bull frog
"""

# What else a word may name: reading it one way must not make it wrong the other way.
_ALSO = {"bike": "motorcycle", "bikes": "motorcycle", "computer": "tv", "computers": "tv", "coach": "bus"}

# Words that speak of an object without naming it for certain: people called by their gear, games called by their ball,
# words of two meanings. They are no mentions, but a caption that has them does not leave the object out.
_HINTS = {
    "bicycle": "biker bikers biking cyclist cyclists bicyclist bicyclists cycling bmx tricycle",
    "motorcycle": "biker bikers biking motorcyclist motorcyclists motocross bike bikes",
    "boat": "kayaker kayakers kayaking canoeing rowing rafting raft rafts sailing",
    "surfboard": "surfer surfers surfing surfs surf board boards",
    "snowboard": "snowboarder snowboarders snowboarding board boards",
    "skateboard": "skateboarder skateboarders skateboarding skater skaters board boards",
    "skis": "skier skiers skiing",
    "sports ball": "basketball basketballs football footballs baseball volleyball softball soccer rugby tennis",
    "tennis racket": "tennis",
    "baseball bat": "batter batting",
    "frisbee": "disc disk",
    "handbag": "bag bags",
    "backpack": "bag bags backpacker backpackers",
    "suitcase": "bag bags",
    "tie": "ties",
    "cup": "glass glasses",
    "wine glass": "glass glasses",
    "orange": "orange",
    "potted plant": "plant plants",
    "chair": "seat seats",
    "bench": "seat seats",
    "dining table": "desk",
    "tv": "screen",
}

_IRREGULAR = {
    "person": "people",
    "human": "humans",
    "child": "children",
    "mouse": "mice",
    "goose": "geese",
    "calf": "calves",
    "ox": "oxen",
    "sheep": "sheep",
}
_ANIMALS = "bird cat dog horse sheep cow elephant bear zebra giraffe".split()
_TOYS = (*_ANIMALS, *"bicycle car motorcycle airplane bus train truck boat".split())


@dataclass(frozen=True)
class Mention:
    """An object named in a caption, by the words from ``first`` to ``last``."""

    first: int
    last: int
    names: tuple[str, ...]  # the category meant, and others the words may mean


def mentions(words: Sequence[str]) -> list[Mention]:
    """The objects named, in order. The longest name counts: no dog is found in a "hot dog"."""
    found, position = [], 0
    while position < len(words):
        lengths = range(min(_LONGEST, len(words) - position), 0, -1)
        names = (" ".join(words[position : position + length]) for length in lengths)
        name = next((name for name in names if name in OBJECT_WORDS), "")
        end = position + max(1, len(name.split()))
        if OBJECT_WORDS.get(name):
            also = (_ALSO[name],) if name in _ALSO else ()
            found.append(Mention(position, end - 1, (OBJECT_WORDS[name], *also)))
        position = end
    return found


def objects_in(words: Sequence[str]) -> list[str]:
    """The categories named, in order, one for each mention."""
    return [mention.names[0] for mention in mentions(words)]


def objects_granted(words: Sequence[str]) -> set[str]:
    """The categories that a true caption of these words lets someone else name."""
    named = {name for mention in mentions(words) for name in mention.names}
    return named | {name for word in words for name in _GRANTED.get(word, ())}


def _plural(name: str) -> str:
    before, _, word = name.rpartition(" ")
    if word in _IRREGULAR:
        word = _IRREGULAR[word]
    elif word.endswith("man"):
        word = word[:-3] + "men"
    elif word.endswith(("ss", "us", "x", "z", "ch", "sh")):
        word += "es"
    elif word.endswith("fe"):
        word = word[:-2] + "ves"
    elif word.endswith("y") and word[-2] not in "aeiou":
        word = word[:-1] + "ies"
    elif not word.endswith("s"):
        word += "s"
    return f"{before} {word}".strip()


def _split(names: str) -> list[str]:
    return [" ".join(name.split()) for name in names.split(",") if name.strip()]


def _object_words() -> dict[str, str]:
    table = {}
    for category, names in _NAMES.items():
        for name in {category, *_split(names)} - {"orange"}:
            table |= {name: category, _plural(name): category}
    table["oranges"] = "orange"  # one orange is nearly always the colour
    for name, category in list(table.items()):
        if category in _ANIMALS:
            table |= {f"{age} {name}": category for age in ("baby", "adult", "mother")}
            table[f"stuffed {name}"] = "teddy bear"
    toys = {f"toy {name}" for category in _TOYS for name in (category, _plural(category))}
    others = {other for name in _split(_OTHER_THINGS) for other in (name, _plural(name))}
    return table | dict.fromkeys((toys | others) - {"toy bear", "toy bears"}, "")


# The category of a name, which may have spaces; "" where the words name no object though one of them alone would.
OBJECT_WORDS: dict[str, str] = _object_words()
_LONGEST = max(len(name.split()) for name in OBJECT_WORDS)
_GRANTED = {
    word: {category for category, words in _HINTS.items() if word in words.split()}
    for word in " ".join(_HINTS.values()).split()
}
