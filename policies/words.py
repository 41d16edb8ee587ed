"""The words by which `screens` knows a question about health, about a child, or about where somebody is.

Data only. In a list of words `ill` is that word, `diabet*` what begins so, `*schmerz` what ends so. In a
list of phrases each line is words in a row, and `my/our doctor` stands for both. Upper case, accents and
apostrophes do not matter (`screens` folds what is written and what stands here alike); the umlauts of
`GERMAN` are also looked for as `ae`, `oe`, `ue`. A language is one more entry in each list.

All languages are looked for at once, so a word has no place here that is ordinary in another one: `son` is
French for "his", `pain` French for "bread", `kind` English for "sort", `arts` English for what Dutch calls
kunst, `enkel` Dutch for "only". Those stand in phrases.
"""

from __future__ import annotations

from typing import Final, NamedTuple

GERMAN: Final = "de"


class Words(NamedTuple):
    """What is looked for in one language: single words (split at spaces), and phrases (one a line)."""

    single: str
    phrases: str = ""


HEALTH: Final[dict[str, Words]] = {
    "en": Words(
        """
        ill illness* sick sickness sickly disease* unwell health medical medicine* medicinal medication*
        medicat* pharmac* doctor* hospital hospitals hospitalised hospitalized hospitalisation
        hospitalization surgery surgeries surgeon* clinic clinics clinical nurse nurses dentist* physician*
        paediatric* pediatric* midwife midwives ambulance* patients diagnos* symptom* disability
        disabilities cancer* tumor* tumour* leukaemia leukemia diabet* insulin asthma* epilep* seizure*
        dementia alzheimer* autis* adhd hiv aids covid* corona flu influenza hepatitis chlamydia gonorrh*
        syphilis herpes depress* anxiety suicid* psych* therap* bipolar schizo* ptsd burnout anorexi*
        bulimi* addict* overdos* rehab alcoholic alcoholism pregnan* miscarr* abortion* menstru* menopaus*
        contracep* ivf infertil* pill pills antibiotic* paracetamol acetaminophen ibuprofen aspirin morphine
        opioid* antidepress* painkiller* painful prescri* dosage* vaccin* allerg* fever* cough* headache*
        migraine* toothache* stomachache* backache* earache* ache aches aching bleed* bleeding wound wounded
        wounds rash rashes infect* vomit* nausea* nauseous diarrh* constipat* dizzy dizziness faint fainted
        swollen swelling itch* eczema* fractur* sprain* injur* hurts hurting biops* chemo* dialysis
        transplant* physio* palpitation* cholesterol thyroid
        """,
        """
        self harm
        mental health
        in pain
        chest/back/stomach/knee/neck/shoulder/joint/tooth/belly pain/pains
        kidney/liver stone/stones/disease/failure
        my/his/her/their/the/severe/sharp/of pain
        pain/pains in/relief/killer/killers
        heart attack/failure/disease
        a/had stroke
        blood pressure/test/sugar/type/count
        sore throat
        broken leg/arm/bone/wrist/ankle/hip/foot/nose/rib
        my/our/the/a gp
        my/missed/late period
        panic attack/attacks
        eating disorder
        emergency room
        first aid
        side effect/effects
        x ray/rays
        throwing/throw/threw up
        hurt my/his/her/himself/herself/myself
        kill/killing/cut/cutting myself/himself/herself
        want to die
        feel/feeling ill/sad/down/hopeless/worthless/lonely/worse
        """,
    ),
    "nl": Words(
        """
        ziek zieke zieken ziekte* *ziekte *ziekten ziekenhuis* ziekmeld* dokter* huisarts* tandarts* *artsen
        apotheek* apotheker* medicijn* medicatie* geneesmiddel* pil pillen pijn* *pijn koorts* hoest*
        verkouden* griep* misselijk* overgegeven braken diarree astma* suikerziek* kanker* *kanker depri
        angststoornis* zelfmoord* zelfdoding* zwanger* miskraam* abortus* bevalling* verloskund* ongesteld*
        anticonceptie ggz symptoom bloeddruk* hartaanval* hartinfarct* beroerte* herseninfarct* dement*
        verslaafd* verslaving* geopereerd* gewond* bloeding* bloedt blessure* spoedeisende inent* inenting*
        bijwerking* dosering* jeuk* huiduitslag eczeem duizelig* benauwd* kortademig* flauwgevallen
        gezondheid* *gezondheid verpleeg* verpleging ongeneeslijk* mantelzorg* fysiotherap* nierstenen
        botbreuk handicap
        """,
        """
        een/de/mijn/onze/welke/naar/geen arts
        eerste hulp
        geestelijke gezondheid
        gebroken been/arm/pols/enkel/heup/voet/neus
        been/arm/pols/enkel/heup/voet/neus gebroken
        niet lekker
        voel me
        """,
    ),
    GERMAN: Words(
        """
        krank* *krank arzt* *arzt *arztin *ärzte *ärzten ärzt* medikament* medizin* apothek* tabletten
        schmerz* *schmerz *schmerzen fieber* husten* erkält* grippe* übelkeit erbrechen durchfall krebs
        *krebs angststörung* selbstmord* suizid* schwanger* fehlgeburt* abtreib* entbindung* hebamme*
        verhütung* blutdruck* herzinfarkt* schlaganfall* demenz* süchtig* operiert* verletz* wunde blutung*
        blutet notaufnahme* impfung* impfen impftermin* geimpft nebenwirkung* dosierung* juckreiz juckt
        ekzem* schwindelig* gesundheit* *gesundheit klinik* *klinik behindert* behinderung* spritze weh
        wehtun* pflegegrad* pflegebedürftig* knochenbruch gebrochenes ohnmächtig depri antibiotik*
        rezeptpflichtig* heuschnupfen
        """,
        """
        erste hilfe
        mir ist schlecht/übel/schwindlig
        fühle/fühl mich
        bein/arm gebrochen
        """,
    ),
    "fr": Words(
        """
        malade* maladi* médecin* docteur* docteure* hôpital* hôpitaux clinique* infirmi* dentiste* pharmaci*
        médicament* douleur* fièvre* toux tousse* rhume grippe* nausée* diarrhée* asthm* cancer* tumeur*
        déprim* dépressi* anxiété enceinte enceintes grossesse* avortement* accouch* infarctus avc démence*
        blessure* blessé blessés blessée blessées saign* urgences ordonnance* posologie* vertige* santé psy
        soignant* chirurg* allaite* handicapé* gynéco* grippé* piqûre*
        """,
        """
        mal de/à/au tête/ventre/dos/gorge/dents/genou/coeur
        mal à la/l tête/gorge/estomac/jambe/oreille
        mal aux dents/pieds/yeux/jambes
        ai/as/a/avons/avez/ont mal au/aux/à/partout
        fausse couche
        sage femme
        effets/effet secondaires/secondaire
        tension artérielle
        """,
    ),
}

CHILDREN: Final[dict[str, Words]] = {
    "en": Words(
        """
        child* kid kids kiddo daughter* sons grandson* grandchild* granddaughter* grandkid* stepson*
        stepchild* stepdaughter* schoolchild* schoolkid* schoolboy* schoolgirl* baby babies babysit*
        toddler* infant infants newborn* teen teens teenage* boy boys girl girls niece* nephew* orphan*
        minors pupil pupils kindergart* nursery nurseries preschool* daycare playgroup* classmate* homework
        bullied bullying breastfe* diaper* nappy nappies
        """,
        """
        my/our/your/his/her/their/whose/old/little/eldest/oldest/youngest/elder/younger/only/and son
        son s/is/was/has/had/will/goes/can/needs/wants/likes/does/and
        a/the minor
        my/our/his/her/their/s school/teacher/class/classroom
        at/to/from/after school
        school of my/our/his/her/their/the
        primary/elementary school/pupil
        day care
        little/young one/ones
        """,
    ),
    "nl": Words(
        """
        kinder* *kinderen zoon zoons zonen zoontje* stiefzoon dochter* *dochter *dochters dochtertje* babys
        baby* peuter* kleuter* kleinkind* kleinzoon* kleindochter* schoolkind* pleegkind* stiefkind*
        jongetje* meisje* tiener* puber* minderjarig* basisschool* klasgenoot* klasgenoten huiswerk* oppas*
        zuigeling* gepest pesten pesterijen luier* borstvoeding scholier* leerling* neefje* nichtje*
        jeugdzorg crèche*
        """,
        """
        mijn/ons/onze/het/een/jouw/je/uw/zijn/haar/hun/elk/dat/dit kind
        kind is/heeft/van/wil/kan/mag/moet
        op/naar/van school
        mijn/onze/zijn/haar/hun/jouw school/juf/meester/klas
        school van
        in groep 1/2/3/4/5/6/7/8
        """,
    ),
    GERMAN: Words(
        """
        kinder* *kinder *kindern kindes sohn söhne söhnen sohnes stiefsohn tochter* töchter* säugling*
        kleinkind* enkelkind* enkelin* enkelsohn schulkind* pflegekind* stiefkind* mädchen* minderjährig*
        jugendamt kita kitas grundschul* hausaufgabe* schüler* mitschüler* klassenkamerad* windel windeln
        neffe neffen nichte nichten gemobbt nachwuchs kindchen
        """,
        """
        mein/meine/meinem/meinen/meines kind/enkel/junge/schule/lehrer/lehrerin/klasse
        meiner schule/klasse
        unser/unserem/unseres kind/enkel/junge
        dein/deinem/sein/seinem/ihr/ihrem/euer/eurem/das/dem/ein/einem/jedes/kein kind
        kind ist/hat/kann/will/darf/muss
        in/aus/von der schule
        zur/seine/seiner/ihre/ihrer schule
        schule meiner/meines/unserer/unseres/seiner/ihrer
        """,
    ),
    "fr": Words(
        """
        enfan* fils fille filles fillette* garçon garçons garçonnet* bébé* nourrisson* ados adolescen*
        crèche* maternelle* collégien* lycéen* écolier* nounou* neveu* mineurs mineure mineures devoirs
        harcèlement petitenfant*
        """,
        """
        mon/ton/un/notre/votre/leur ado/gamin/gosse/bambin/mineur
        école de/du/des
        mon/son/notre/leur/à/l/cette école
        à/de/mon/son/notre/leur l école
        l élève
        mon/notre/son élève/instituteur/maître
        """,
    ),
}

LOCATION: Final[dict[str, Words]] = {
    "en": Words(
        "",
        """
        i/we/she/he/they/you live/lives/lived/living/reside/resides in/at/on/near/next/close
        i/we/she/he/they live/lives behind/opposite/above/across
        i/we/she/he/they m/re/am/are/is/s living/staying in/at/on/near/with
        lives in/at/on
        living at
        where i/we/he/she/they live/lives/stay/stays/sleep/sleeps
        where does/do he/she/they/i/you live/stay
        my/our/his/her/their/home/private address/addresses
        address of mr/mrs/ms/my
        my/our/his/her/their location/postcode/zip
        my/our/his/her/their current/exact/live location/position
        current/exact/live location
        i am/m at home
        home alone
        gps coordinates/position/location
        my/our coordinates/position
        """,
    ),
    "nl": Words(
        """
        woonachtig woonadres* thuisadres* huisadres*
        """,
        """
        ik/we/wij/hij/zij/ze/die woon/wonen/woont in/op/aan/bij/naast/vlakbij/tegenover/achter/daar
        woon ik/jij/je
        woon/woont in/op/aan/bij
        waar woon/woont
        waar ik/hij/zij/ze/we/wij/jij woon/woont/wonen
        mijn/ons/onze/zijn/haar/hun/jouw adres/huisnummer/postcode/locatie
        mijn/onze/zijn/haar/hun huidige locatie/adres
        adres van mijn/mevrouw/meneer
        alleen thuis
        """,
    ),
    GERMAN: Words(
        """
        wohnhaft wohnadresse* heimatadresse* wohnanschrift* privatadresse*
        """,
        """
        ich/wir/er/sie wohne/wohnen/wohnt/lebe/leben/lebt in/im/am/an/bei/neben/gegenüber/hier/auf
        wohne ich/in/im/am/an/bei
        wohnt in/im/am/an/bei/er/sie
        wo wohnt/wohne/wohnst
        wo ich/er/sie/wir wohne/wohnt/wohnen
        meine/meiner/unsere/unserer/seine/seiner adresse/anschrift/hausnummer/postleitzahl/plz
        mein/meinem/unser/unserem/sein standort/wohnort
        adresse von
        allein zu hause
        """,
    ),
    "fr": Words(
        """
        domicilié* domiciliée*
        """,
        """
        habite à/au/aux/en/dans/sur/chez/rue/ici/près/avenue/place
        j/nous/elle/il/on/je habite/habitons/réside/résidons/loge/vis à/au/aux/en/dans/sur/chez/rue/près
        où j/il/elle/nous habite/habitons
        où habite/habitent/vit
        mon/notre/son/leur adresse/domicile
        ma/notre/sa/leur position/localisation
        mon/notre/son code postal
        adresse de ma/mon/madame/monsieur
        chez moi/nous
        demeurant à/au
        """,
    ),
}
