/* Words that carry no meaning of their own, by language: articles, pronouns, prepositions,
 * conjunctions, auxiliary verbs. Written by hand and kept short; a tenant adds his own. */
#include <string.h>

#include "filter/text.h"

/* In one string a language, each word between spaces. */
static const struct {
    const char *name, *words;
} lists[] = {
    {"english",
     " a about above after again against all am an and any are as at be because been before being "
     "below between both but by can could did do does doing down during each few for from further "
     "had has have having he her here hers herself him himself his how i if in into is it its "
     "itself just me more most my myself no nor not now of off on once only or other our ours "
     "ourselves out over own same she should so some such than that the their theirs them "
     "themselves then there these they this those through to too under until up very was we were "
     "what when where which while who whom why will with would you your yours yourself "
     "yourselves "},
    {"german",
     " aber alle als also am an auch auf aus bei bin bis bist da damit dann das dass dein deine "
     "dem "
     "den der des dich die dies diese dieser dir doch dort du durch ein eine einem einen einer "
     "eines er es euch euer für hab habe haben hat hatte hatten hier ich ihm ihn ihnen ihr ihre im "
     "in ist ja jede jeder jedes kann kein keine können man mein meine mich mir mit muss nach "
     "nicht "
     "noch nun nur ob oder ohne sehr sein seine sich sie sind so soll sondern um und uns unser "
     "unter viel vom von vor war waren warum was weil wenn wer werden wie wieder will wir wird wo "
     "wurde wurden zu zum zur über "},
    {"french",
     " ai au aux avec avons avez ce ces cet cette dans de des du elle elles en est et eu eux il "
     "ils "
     "je la le les leur leurs lui ma mais me mes moi mon même ne nos notre nous on ont ou où par "
     "pas pour qu que qui sa se ses si son sont suis sur ta te tes toi ton tu un une vos votre "
     "vous "
     "y à été être "},
    {"spanish",
     " a al algo ante antes como con contra cual cuando de del desde donde dos el ella ellas ellos "
     "en entre era eran es esa ese eso esta estaba estado este esto estos estas fue fueron ha "
     "había "
     "han hasta hay la las le les lo los me mi mis mucho muy más ni no nos nosotros o os otra otro "
     "para pero poco por porque que quien se ser si sin sobre son soy su sus también tanto te "
     "tiene "
     "tu tus un una unas uno unos y ya yo él "},
    {"italian",
     " a ad agli ai al alla alle allo anche avere aveva c che chi ci come con contro cui da dagli "
     "dai dal dalla dalle dallo degli dei del della delle dello di dove e ed era erano essere fra "
     "gli ha hanno ho i il in io la le lei li lo loro lui ma mi mia mie mio ne negli nei nel nella "
     "nelle nello noi non nostra nostro o per perché più quale quando quella quelle quelli quello "
     "questa queste questi questo se sei si sia siamo sono su sua sue sugli sui sul sulla sulle "
     "suo "
     "suoi ti tra tu tua tuo tutti tutto un una uno vi voi è "},
    {"portuguese",
     " a ao aos as até com como da das de dela dele deles depois do dos e ela elas ele eles em "
     "entre era essa esse esta este eu foi foram há isso isto já lhe mais mas me mesmo meu minha "
     "muito na nas nem no nos nossa nosso não nós o os ou para pela pelas pelo pelos por qual "
     "quando que quem se sem ser seu seus sua suas são só também te tem um uma você à às é "},
    {"dutch",
     " aan al alles als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus "
     "een eens en er ge geen haar had heb hebben heeft hem het hier hij hoe hun iemand iets ik in "
     "is ja je kan kon kunnen maar me meer men met mij mijn moet na naar niet niets nog nu of om "
     "omdat onder ons ook op over reeds te tegen toch toen tot u uit uw van veel voor want waren "
     "was wat we wel werd wie wij wil worden wordt zal ze zelf zich zij zijn zo zonder zou "},
    {"swedish",
     " alla allt att av blev bli blir de dem den denna deras dess det detta dig din dina ditt du "
     "där då efter ej eller en er era ett från för ha hade han hans har henne hennes hon honom hur "
     "här i icke ingen inom inte jag ju kan kunde man med mellan men mig min mina mitt mot mycket "
     "ni nu när någon något några och om oss på samma sedan sig sin sina sitt själv skulle som så "
     "till under upp ut utan vad var vara varför vem vi vid vilken vår våra åt än är över "},
    {"norwegian",
     " alle at av bare begge ble blei bli blir blitt da de deg dem den denne der dere deres det "
     "dette di din disse ditt du eg ein eit eller en enn er et ett etter for fordi fra før ha "
     "hadde "
     "han hans har hennes her hun hva hvem hver hvor i ikke inn jeg kan kunne man med meg mellom "
     "men mer min mitt mot mye må nå når noe noen og også om opp oss over på samme seg selv si sin "
     "sitt skal skulle slik som så til um ut uten var ved vi vil ville vår å "},
    {"danish",
     " ad af alle alt anden at blev blive bliver da de dem den denne der deres det dette dig din "
     "disse dog du efter eller en end er et for fra ham han hans har havde have hende hendes her "
     "hos hun hvad hvis hvor i ikke ind jeg jer jo kunne man mange med meget men mig min mine mit "
     "mod ned noget nogle nu når og også om op os over på selv sig sin sine sit skal skulle som "
     "sådan thi til ud under var vi vil ville vor være været "},
    {"finnish",
     " ei eivät emme en et ette että he heidän heitä hän hänen häntä ja jo joka jos jotka kanssa "
     "koska kuin kuka kun me meidän mikä minkä minun minä mitä mukaan mutta mutta ne niin nuo "
     "nyt nämä ole olen olet olette oli olimme olin olisi olit olivat olla olleet on ovat se sekä "
     "sen sinun sinä sitä tai te teidän tuo tämä vaan vaikka vai "},
    {"russian",
     " а без более бы был была были было быть в вам вас весь во вот все всего вы где да даже для "
     "до "
     "его ее ей ему если есть еще же за и из или им их к как ко когда кто ли либо мне может мы на "
     "надо наш не него нее нет ни них но ну о об однако он она они оно от по под при с со так "
     "также "
     "такой там те тем то того тоже той только том ты у уже хотя чего чей чем что чтобы чье эта "
     "эти "
     "это я "},
};

#define LANGUAGES (sizeof lists / sizeof *lists)

uint32_t
dp_stop_language(const char *name, size_t len)
{
    for (size_t i = 0; i < LANGUAGES; i++) {
        if (strlen(lists[i].name) == len && memcmp(lists[i].name, name, len) == 0) {
            return UINT32_C(1) << i;
        }
    }
    return 0;
}

bool
dp_is_stop_word(uint32_t languages, const char *word, size_t len)
{
    char key[32];
    if (len == 0 || len + 2 >= sizeof key || memchr(word, ' ', len) != NULL ||
        memchr(word, '\0', len) != NULL) {
        return false;
    }
    key[0] = key[len + 1] = ' ';
    memcpy(key + 1, word, len);
    key[len + 2] = '\0';
    for (size_t i = 0; i < LANGUAGES; i++) {
        if ((languages >> i & 1) != 0 && strstr(lists[i].words, key) != NULL) {
            return true;
        }
    }
    return false;
}
