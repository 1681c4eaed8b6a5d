"""Word classes by closed lists and endings, made for captions; there is no tagger behind them.

Words that captions use in two classes have the commoner one: "jump" is a noun ("a jump"), "jumps" a verb.
"""

from __future__ import annotations

from collections.abc import Sequence

ARTICLES = frozenset("a an the".split())
FUNCTION_WORDS = frozenset(
    """a an the this that these those some another other each one and or but while as of in on at by with without to
    from into onto over under through across along around behind beside between near next above below against inside
    outside off out up down front top for during after before is are am was be being been has have had having do does
    doing can it its his her their he she they them him who which what where when there 's""".split()
)
ATTRIBUTES = frozenset(
    """two three four five six seven eight nine ten many several few both all various different multiple single half
    black white red blue green yellow brown pink orange purple gray grey tan blond blonde golden gold silver beige navy
    cream teal dark light bright brightly colored coloured colorful colourful multicolored clear striped plaid
    checkered polka floral spotted patterned little small smaller large larger big huge giant tiny long short tall
    thin wide narrow deep shallow high low full empty young old older younger elderly teenage middle adult male
    female asian african american indian chinese japanese german same opposite far close closeup left right rear
    wet dry muddy dirty dusty sandy snowy rocky grassy icy cold hot warm sunny cloudy rainy foggy rough smooth
    steep wooden metal plastic concrete brick rubber stone leather paved cement inflatable fake stuffed bald
    shirtless topless bare barefoot naked curly furry fluffy fuzzy shaggy hairy bearded smiling hooded beautiful
    pretty cute nice happy silly funny fancy strange modern busy crowded open closed lone alone outdoor indoor
    urban rural public professional formal casual ready""".split()
)
_VERBS = frozenset(
    """jumps runs walks sits stands plays looks holds climbs rides carries watches leaps performs takes swims catches
    poses wears gets makes does goes has tries pulls pushes kicks throws hits swings flies chases slides skis surfs
    skates snowboards skateboards dances fights leans lies lays hangs comes gives puts uses shows talks eats drinks
    bites licks chews splashes digs rolls crosses drives races passes enjoys appears attempts prepares reaches
    raises rests reads sings smiles smokes sleeps turns moves travels touches balances follows falls blows points
    waits begins leads stares crawls bends dribbles kneels floats paddles performs tackles grinds flips spins hugs
    kisses shakes stops retrieves fetches helps hikes does walk sit stand hold look watch wear pose carry catch
    throw try get make take go come perform sat stood ran held caught taken seen shown made thrown worn lit gather
    hang lie lay eat swim climb chase jog kneel lean play run fight wait hit wrestle kick talk laugh pull put see
    reach grab spread compete hug enjoy pass follow participate appear observe fetch says crouches laughs dives
    fallen driven""".split()
)
_ADVERBS = frozenset(
    """away together past about upside nearby very well also almost just still ahead apart forward backwards backward
    sideways downhill uphill midair outdoors indoors overhead underneath beneath amidst among atop towards toward
    like whilst because if then not no how fast outside asleep headfirst upwards underwater airborne""".split()
)
_NOUNS_IN_ING = frozenset(
    """building railing clothing wedding ring king string wing swing spring sling thing something nothing anything
    ceiling evening morning lightning pudding earring siding painting drawing carving icing frosting bedding awning
    dumpling duckling offspring""".split()
)
_NOUNS_IN_ED = frozenset("bed sled dogsled shed seed weed feed steed moped".split())
_NOUNS_IN_LY = frozenset("family belly bully jelly lily assembly butterfly dragonfly fly".split())


def is_content(word: str) -> bool:
    """Whether a word names something a photograph can show: no article, preposition, pronoun or auxiliary."""
    return word not in FUNCTION_WORDS


def is_attribute(word: str) -> bool:
    """Whether a word says what something is like or how many there are: a colour, a size, an age, a number."""
    return word in ATTRIBUTES


def is_noun(word: str) -> bool:
    """Whether a word names a thing, as far as the lists and endings tell; an unknown word counts as a noun."""
    if not is_content(word) or is_attribute(word) or word in _VERBS or word in _ADVERBS:
        return False
    exceptions = {"ing": _NOUNS_IN_ING, "ed": _NOUNS_IN_ED, "ly": _NOUNS_IN_LY}
    return all(not word.endswith(ending) or word in nouns for ending, nouns in exceptions.items())


def things(words: Sequence[str]) -> list[int]:
    """Positions of the nouns that each name a thing of their own.

    Of nouns that follow each other the last ("soccer field"), and no noun before "of" ("group of people"): it names
    the same thing or a part of it.
    """
    following = [*words[1:], ""]
    return [
        position
        for position, (word, after) in enumerate(zip(words, following))
        if is_noun(word) and after != "of" and not (after and is_noun(after))
    ]
