/* Words that carry no meaning of their own, by language: articles, pronouns, prepositions,
 * conjunctions, auxiliary verbs. Written by hand and kept short; a tenant adds his own. The
 * languages are those that Qdrant's requests may name. */
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
    {"arabic", " في من على إلى الى عن مع هذا هذه ذلك تلك هؤلاء أولئك الذي التي الذين اللذين اللاتي "
               "ما ماذا من "
               "هو هي هم هن هما أنا نحن أنت أنتم إن أن ان كان كانت كانوا يكون تكون ليس ليست لا لم "
               "لن ما قد لقد "
               "و أو او ثم بل لكن لكنه حتى إذا اذا إذ لو كل بعض غير بين بعد قبل عند عندما حيث كما "
               "كيف متى أين "
               "لماذا فوق تحت منذ خلال حول ضد له لها لهم به بها فيه فيها منه منها عليه عليها إليه "
               "إليها أي كي "},
    {"azerbaijani",
     " və ya ilə amma lakin ancaq ki da də bu o bunlar onlar mən sən biz siz mənim sənin onun "
     "bizim "
     "sizin onların mənə sənə ona bizə sizə onlara bir hər heç çox az daha ən üçün kimi qədər "
     "sonra "
     "əvvəl isə əgər çünki belə elə necə nə niyə harada hansı kim var yox idi olan olur oldu deyil "
     "özü öz bütün bəzi həm yalnız artıq hələ indi burada orada "},
    {"basque",
     " eta edo baina ere ez bai da dira zen ziren du dute zuen zuten naiz zara gara zarete dut "
     "duzu "
     "dugu duzue ni zu gu zuek hau hori hura hauek horiek haiek bere beren nire zure gure zein zer "
     "nor non noiz nola zergatik bat batzuk hemen hor han orain gero beti oso asko gutxi baino "
     "bezala "
     "beste guztiak dela dago daude izan egin "},
    {"bengali", " এবং ও বা কিন্তু তবে যদি তাহলে যে যা যার যারা তা তার তারা তাদের সে এ এই ওই সেই আমি "
                "আমার আমরা আমাদের "
                "তুমি তোমার আপনি আপনার তিনি কি কী কে কেন কখন কোথায় কিভাবে কোন না নয় নেই হয় হয়ে হবে "
                "হল ছিল ছিলেন "
                "আছে করে করা করতে থেকে জন্য সঙ্গে সাথে মধ্যে পর পরে আগে উপর নিয়ে দিয়ে মতো আর আরও খুব "
                "সব কিছু এক একটি "},
    {"catalan",
     " a al als amb aquell aquella aquells aquelles aquest aquesta aquests aquestes això allò cap "
     "com "
     "d de del dels des ell ella elles ells em en ens entre era eren és està estan et fins ha han "
     "he "
     "hem hi ho i jo la les li llur lo el els l m me més meu meva molt molta n ni no nosaltres "
     "nostre "
     "o on pel pels per perquè però qual quan que qui què s sa se sense ser seu seva si sobre som "
     "són "
     "sóc t també te tenir teu teva tot tots tu un una uns unes us va vosaltres vostre "},
    {"chinese", " 的 了 在 是 我 你 您 他 她 它 我们 你们 他们 她们 它们 这 那 这个 那个 这些 那些 "
                "这里 那里 和 与 "
                "及 或 或者 而 而且 但 但是 因为 所以 如果 虽然 然而 就 都 也 还 又 再 很 太 更 最 "
                "不 没 没有 有 "
                "着 过 地 得 之 其 把 被 让 给 对 对于 从 向 往 到 以 于 为 为了 由 由于 跟 比 吗 "
                "呢 吧 啊 什么 谁 "
                "哪 哪里 哪个 怎么 怎样 为什么 多少 几 每 各 某 等 会 能 可以 要 将 已 已经 "},
    {"greek", " ο η το οι τα του της των τον την τους τις ένας μια μία ένα και ή αλλά όμως αν εάν "
              "να θα δεν δε "
              "μη μην που πως πώς πού ότι όταν γιατί διότι για με σε από προς παρά κατά μετά αντί "
              "χωρίς ως σαν "
              "στο στη στην στον στους στις στα είναι ήταν είμαι είσαι είμαστε έχει έχω έχουν "
              "αυτός αυτή αυτό "
              "αυτοί αυτές αυτά εγώ εσύ εμείς εσείς μου σου μας σας ποιος ποια ποιο τι κάθε όλα "
              "όλοι πολύ πιο "
              "επίσης μόνο εδώ εκεί τώρα "},
    {"hebrew", " של את על אל אם אבל או כי לא כן גם רק עם מן מ ב ל ה ו ש הוא היא הם הן אני אנחנו "
               "אתה את אתם אתן "
               "זה זו זאת אלה אלו שלי שלך שלו שלה שלנו שלכם שלהם לי לך לו לה לנו להם היה הייתה היו "
               "יהיה להיות יש "
               "אין מה מי איפה איך למה מתי כמה איזה כל כמו יותר מאוד עוד כבר עד בין אחרי לפני תחת "
               "מעל אשר אז כאן "
               "שם "},
    {"hinglish", " aur ya lekin par agar to ki ka ke ko se mein me pe bhi hi hai hain ho hota hoti "
                 "hote tha thi the "
                 "hoga hogi honge main hum tum aap woh wo yeh ye voh mera meri mere hamara tumhara "
                 "aapka uska uski "
                 "uske unka iska iski iske inka kya kyun kyu kaun kab kahan kaise kitna koi kuch "
                 "sab nahi nahin na "
                 "mat jo jab jahan jaise phir fir abhi yahan wahan ek do bahut a an and are as at "
                 "be by for from "
                 "in is it of on or the this to was with "},
    {"hungarian",
     " a az egy és vagy de hogy ha nem is csak meg már még mert mint ki be le fel el át én te ő mi "
     "ti "
     "ők ez azt ezt ezek azok ennek annak ebben abban erre arra itt ott most akkor amikor ahol aki "
     "ami "
     "amely amit mely melyek milyen miért hol mikor hogyan van volt voltak vannak lesz lenne lehet "
     "volna kell minden több nagyon sok saját után előtt alatt között szerint által pedig tehát "
     "így "
     "úgy olyan ilyen sem se "},
    {"indonesian",
     " yang dan di ke dari untuk pada dengan dalam adalah ini itu tidak bukan akan atau juga oleh "
     "sebagai karena tetapi tapi namun jika kalau maka agar supaya saat ketika sudah telah belum "
     "masih "
     "sedang bisa dapat harus ada saya aku kamu anda dia ia kami kita mereka nya apa siapa mana "
     "kapan "
     "mengapa bagaimana berapa para setiap semua beberapa sangat lebih paling hanya lagi pun lalu "
     "kemudian antara sampai hingga seperti sebuah seorang tersebut secara bahwa sehingga "},
    {"japanese", " の に は を た が で て と し れ さ ある いる も する から な こと として い や "
                 "れる など なっ ない "
                 "この ため その あの あっ よう また もの という あり まで られ なる へ か だ これ "
                 "によって により "
                 "おり より による ず なり られる において なかっ なく しかし について だっ できる "
                 "それ う ので なお "
                 "のみ でき き つ における および いう さらに でも ら たり たち ます です ました "
                 "でした せん ここ そこ "
                 "あそこ どこ 私 あなた 彼 彼女 何 誰 いつ なぜ どの どう "},
    {"kazakh", " және мен пен бен немесе бірақ алайда ал да де та те бұл осы сол ол олар мен сен "
               "біз сіз сіздер "
               "менің сенің оның біздің сіздің олардың маған саған оған бізге сізге оларға бір әр "
               "барлық кейбір "
               "көп аз өте ең үшін туралы сияқты дейін кейін бұрын егер өйткені сондықтан қалай не "
               "неге қайда "
               "қандай кім бар жоқ еді болған болды болып емес өзі өз ғана енді қазір мұнда онда "},
    {"nepali",
     " र तथा वा तर भने यदि किनभने को का की ले लाई मा बाट देखि सम्म सँग संग लागि यो त्यो यी ती यस त्यस "
     "म हामी तिमी तपाईं उनी उनले ऊ उनीहरू मेरो हाम्रो तिम्रो तपाईंको उनको के को किन कहिले कहाँ कसरी कुन "
     "छ छन् छु हो हुन् हुन्छ थियो थिए भएको भयो गर्न गर्ने गरेको पनि नै मात्र अब यहाँ त्यहाँ सबै केही धेरै "
     "अरू एक होइन छैन न "},
    {"romanian", " a acea această aceasta aceea acei aceia acel acela acele acelea acest acesta "
                 "aceste acestea acești "
                 "aceștia ai al ale am ar are aș asta au avea această ca când care ce cea cei cel "
                 "cele că chiar cine "
                 "cu cum da dacă dar de deci decât deși din după ea ei el ele era erau este eu "
                 "eram fără fi fie fost "
                 "iar îi îl în între îmi își la le li lor lui mai mă mea mei meu mi ne nici "
                 "noastră noi nostru nu o "
                 "ori pe pentru peste prin sa să sale sau se si și sunt suntem sub sus ta te toate "
                 "tot toți tu un "
                 "una unde unei unui unul vă voi "},
    {"slovene", " in ali pa ampak toda da ne je so sem si smo ste bil bila bilo bili bile bi bo "
                "bodo bom sta za z s "
                "k h v na po pri pod nad pred od do iz o ob med brez skozi zaradi ker če ko kot "
                "kjer ki kdo kaj "
                "kako kdaj zakaj kateri katera katero ta to ti tisti tista tisto jaz on ona ono mi "
                "vi oni one ga "
                "jo jih mu ji jim se me te nas vas moj tvoj njegov njen naš vaš njihov svoj vse "
                "vsi ves vsak še že "
                "tudi le samo zelo bolj več ter torej tako tu tam zdaj potem "},
    {"tajik",
     " ва ё аммо лекин вале ки то агар чунки зеро ба дар аз бо барои бе то рӯи зери миёни байни "
     "пеш пас "
     "баъд ин он инҳо онҳо ман ту мо шумо ӯ вай онон худ ҳама ҳар баъзе як чӣ кӣ куҷо кай чаро чӣ "
     "тавр "
     "кадом чанд аст ҳаст ҳастанд буд буданд шуд шудан мешавад кард мекунад не нест на ҳам низ боз "
     "хеле бисёр кам танҳо акнун ҳоло ҳамин ҳамон чун монанди "},
    {"turkish", " acaba ama ancak artık asla aslında az bana bazı belki ben beni benim bir biraz "
                "biri birkaç birçok "
                "biz bize bizi bizim böyle bu buna bunda bundan bunlar bunu bunun burada çok çünkü "
                "da daha de değil "
                "diye en gibi göre hala hangi hatta hem hep hepsi her hiç için ile ise işte kadar "
                "karşı kendi ki "
                "kim kimse mı mi mu mü nasıl ne neden nerede niçin niye o olan olarak oldu olduğu "
                "olması olur ona "
                "ondan onlar onları onların onu onun oysa öyle sadece sanki sen seni senin siz "
                "sizi sizin sonra "
                "şey şu şöyle tüm var ve veya ya yani yok zaten "},
};

_Static_assert(sizeof lists / sizeof *lists <= 32, "a language is a bit");

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
