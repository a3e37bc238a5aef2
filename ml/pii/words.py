"""Words that tell what stands beside them: titles, parts of a street, endings of a company's name, joiners of a name.

What belongs here: closed word classes of a language and of postal usage. What does not: names of people, places or
companies; a list of these would only find who is on it.
"""

# ruff: noqa: SIM905 (a class of words is read as a text, not as a list of a line each)

from __future__ import annotations

from typing import Final

#: Joins two parts of one name: van der Voet, Villafranca del Cid, Boston Museum of Art.
JOINERS: Final = frozenset(
    "de del della delle dei di da do dos das du des la le les l van von vom der den het ter ten op aan of el "
    "al y zu zur zum am im na nad pod ved i bin ibn ben ap".split()
)

PARTICLES: Final = frozenset("van von der den ter de la du da di del della el al bin ibn zu".split())

TITLES: Final = frozenset(
    "mr mrs ms miss mx dr prof professor sir madam lord lady rev fr sr sra herr frau mme mlle capt captain "
    "col gen lt sgt".split()
)

SUFFIXES: Final = frozenset("jr sr ii iii iv phd md esq".split())

#: Words of a postal address in the languages whose addresses are met most.
STREET: Final = frozenset(
    "street st road rd avenue ave av boulevard blvd lane ln drive dr court ct square sq place pl terrace "
    "terrasse way highway hwy parkway pkwy crescent close grove alley row walk quay square circle cir trail "
    "loop plaza pike ridge crossing strasse straße str gasse platz weg allee ring ufer damm rue chemin quai "
    "impasse via viale piazza corso vicolo largo calle avenida paseo plaza carrera camino rua travessa praça "
    "estrada ulica ul utca út tér körút gata gatan gade vej vejen väg vägen plads gaten veien straat laan "
    "plein weg kade gracht katu tie polku tänav maantee iela gatvė odos leoforos bulvar caddesi sokak sokağı".split()
)
STREET_ENDINGS: Final = (
    "strasse", "straße", "stasse", "gasse", "platz", "weg", "straat", "laan", "plein", "gracht", "kade", "gata",
    "gatan", "gade", "vej", "vejen", "vegen", "veien", "gaten", "vägen", "väg", "katu", "tie", "kuja", "polku",
    "utca", "tänav",
)  # fmt: skip

#: Parts of an address that are followed or preceded by a number.
UNIT: Final = frozenset(
    "apt apartment suite ste unit flat floor fl room rm building bldg box pobox postbox postfach psc apo fpo "
    "dpo po p.o block house lot no".split()
)

COMPANY: Final = frozenset(
    "inc incorporated llc ltd limited corp corporation co company plc gmbh ag sa sarl srl bv nv oy ab as aps "
    "group holdings partners associates bank university institute foundation technologies solutions systems "
    "software labs".split()
)

#: Agent nouns end so; a job is a phrase that ends in one.
JOB_ENDINGS: Final = (
    "er", "or", "ist", "ian", "man", "woman", "person", "ant", "eer", "wright", "smith", "wife", "nurse",
    "clerk", "aide", "analyst", "assistant", "agent", "judge", "pilot", "coach", "chef", "guard", "surgeon",
    "physician", "scientist",
)  # fmt: skip

DIRECTIONS: Final = frozenset("northern southern eastern western central".split())
DAYS: Final = frozenset("monday tuesday wednesday thursday friday saturday sunday".split())
MONTHS: Final = frozenset(
    "january february march april may june july august september october november december".split()
)

#: Capitalised by custom, and nobody's name.
NEVER: Final = (
    frozenset(
        "i i'm i've i'd i'll ok tv dvd cd pc id ids url uri api sql html http https ssn iban bic cvv pin atm asap "
        "faq pdf csv usb gps usa uk us eu un am pm bc ad cc ip dns vpn wifi phd mba ceo cto cfo hr it zip".split()
    )
    | DAYS
    | MONTHS
)

#: Countries and their larger parts, in one word or by their first; a closed class, unlike cities.
COUNTRIES: Final = frozenset(
    "afghanistan albania algeria andorra angola argentina armenia australia austria azerbaijan bahamas "
    "bahrain bangladesh barbados belarus belgium belize benin bhutan bolivia botswana brazil brunei bulgaria "
    "burundi cambodia cameroon canada chad chile china colombia comoros congo croatia cuba cyprus czechia "
    "denmark djibouti dominica ecuador egypt eritrea estonia eswatini ethiopia fiji finland france gabon "
    "gambia georgia germany ghana greece greenland grenada guatemala guinea guyana haiti honduras hungary "
    "iceland india indonesia iran iraq ireland israel italy jamaica japan jordan kazakhstan kenya kiribati "
    "korea kosovo kuwait kyrgyzstan laos latvia lebanon lesotho liberia libya liechtenstein lithuania "
    "luxembourg madagascar malawi malaysia maldives mali malta mauritania mauritius mexico micronesia moldova "
    "monaco mongolia montenegro morocco mozambique myanmar namibia nauru nepal netherlands nicaragua niger "
    "nigeria norway oman pakistan palau palestine panama paraguay peru philippines poland portugal qatar "
    "romania russia rwanda samoa senegal serbia seychelles singapore slovakia slovenia somalia spain sudan "
    "suriname swaziland sweden switzerland syria taiwan tajikistan tanzania thailand togo tonga tunisia "
    "turkey turkmenistan tuvalu uganda ukraine uruguay uzbekistan vanuatu venezuela vietnam yemen zambia "
    "zimbabwe england scotland wales".split()
) - frozenset("chad jordan georgia turkey china guinea".split())

DEMONYMS: Final = frozenset(
    "afghan albanian algerian american angolan argentinian armenian australian austrian azerbaijani "
    "bangladeshi belarusian belgian bolivian bosnian brazilian british bulgarian cambodian canadian chechen "
    "chilean chinese colombian croatian cuban cypriot czech danish dutch ecuadorian egyptian english estonian "
    "ethiopian filipino finnish french georgian german ghanaian greek guatemalan haitian hungarian icelandic "
    "indian indonesian iranian iraqi irish israeli italian jamaican japanese jordanian kazakh kenyan korean "
    "kurdish kuwaiti latvian lebanese libyan lithuanian macedonian malaysian maltese mexican moldovan "
    "mongolian moroccan nepali nigerian norwegian pakistani palestinian peruvian polish portuguese romanian "
    "russian rwandan saudi scottish senegalese serbian singaporean slovak slovenian somali spanish sudanese "
    "swedish swiss syrian taiwanese tanzanian thai tunisian turkish ugandan ukrainian uruguayan uzbek "
    "venezuelan vietnamese welsh yemeni zambian zimbabwean buddhist catholic christian hindu jewish muslim "
    "protestant sikh sunni shia mormon atheist".split()
)
