/* link: joins two network namespaces with an emulated link.
 *
 *   link NEAR FAR SEED [down:|up:]KEY=VALUE…
 *
 * NEAR and FAR are names below /run/netns; each gets a TUN device called "link". The directions are
 * independent: "down" is from far to near, "up" from near to far. A word without either is for both. A
 * packet meets what the keys name in this order:
 *
 *   loss=PERCENT          it is lost
 *   burst=ENTER:LEAVE     losses in bursts (Gilbert and Elliott): with each packet a burst begins with a
 *                         chance of ENTER percent, or ends with one of LEAVE percent. It loses everything
 *   police=MBIT:KIB       a token bucket drops what exceeds it
 *   queue=KIB             a packet that does not fit into the queue is dropped. 0: no limit
 *   rate=MBIT             how fast the queue empties. 0: no limit, and no queue
 *   trace=FILE            instead of a rate: a line for each chance to send 1500 bytes, in ms from the
 *                         beginning, in order. It is repeated; its last line is also its length
 *   delay=MS              one way
 *   jitter=MS             between 0 and this is added to the delay, drawn again every 20 ms. The packets
 *                         stay in order
 *   late=PERCENT          it arrives later than the others, by the jitter and 5 ms
 *
 *   duplication=PERCENT   a duplicate arrives together with its original
 *   reordering=PERCENT    it arrives up to two delays late
 *   corruption=PERCENT    one bit of its UDP payload is flipped; it has no checksum then, so that the
 *                         receiver's kernel accepts it
 *
 * The same seed loses the same packets of a direction, counted from the first.
 *
 * Prints "up" once the devices exist. SIGUSR1 cuts the link (every packet that enters is dropped),
 * SIGUSR2 restores it, SIGHUP begins the traces again, SIGQUIT prints what was carried so far. SIGTERM,
 * or the death of the parent, ends it; it then prints what it carried.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum {
    MTU = 1500,
    BATCH = 64,
    MOST_UNDERWAY = 1 << 16,
    LEAST_DELAY = 1000000,      /* ns */
    JITTER_LASTS = 20000000,    /* ns, until it is drawn again */
    LATENESS = 5000000,         /* ns, on top of the jitter */
    SMALL = 200,                /* bytes: a packet shorter than this is hardly more than an acknowledgement */
};

enum { UP, DOWN }; /* indices of the directions: from near to far, from far to near */

struct packet {
    struct packet *next;
    uint64_t due; /* when it arrives, ns */
    size_t length;
    unsigned char data[MTU];
};

struct settings {
    double delay, jitter;      /* ns */
    double rate;               /* bytes per ns; 0: no limit */
    double queue;              /* bytes; 0: no limit */
    double police, bucket;     /* bytes per ns, bytes; 0: no policer */
    double enter, leave, late; /* 0 to 1 */
    double loss, duplication, reordering, corruption; /* 0 to 1 */
    uint32_t *trace;           /* ms, rising; NULL: none */
    size_t chances;            /* how many lines it has */
};

/* The packets in the queue: when each will have left it. */
struct waiting {
    uint64_t until[MOST_UNDERWAY];
    uint16_t length[MOST_UNDERWAY];
    size_t first, count;
    double bytes;
};

struct direction {
    struct settings set;
    int from, to;
    struct packet *first, **last; /* under way, sorted by `due` */
    struct packet *late;          /* those that are not in order, sorted by `due` */
    int underway;                 /* how many packets both lists hold */
    struct waiting waiting;
    uint64_t idle_at;             /* when the queue will be empty, ns */
    uint64_t chance;              /* the next line of the trace, counted over all its repetitions */
    size_t room;                  /* bytes that still fit into that chance */
    bool is_bursting;
    double tokens;                /* bytes */
    uint64_t tokens_at;           /* when they were counted, ns */
    double jitter;                /* ns */
    uint64_t jitter_at, newest;   /* when it was drawn; when the last packet in order is due, ns */
    uint64_t losses, faults, jitters; /* states of `draw`; apart, so that none changes the others */
    uint64_t packets, bytes, lost, dropped, policed, late_ones, duplicated, reordered, corrupted, small;
};

static struct packet *unused;
static bool is_cut, is_ended;
static uint64_t traces_began; /* ns */

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* splitmix64 (Steele, Lea, Flood 2014), as a number from 0 to 1 */
static double draw(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static bool happens(uint64_t *state, double chance)
{
    return chance > 0 && draw(state) < chance;
}

static int open_device(const char *namespace)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    int handle = open(path, O_RDONLY | O_CLOEXEC);
    if (handle < 0 || setns(handle, CLONE_NEWNET) < 0)
        fail(path);
    close(handle);
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_name = "link", .ifr_flags = IFF_TUN | IFF_NO_PI};
    if (device < 0 || ioctl(device, TUNSETIFF, &request) < 0)
        fail("/dev/net/tun");
    return device;
}

static struct packet *take(void)
{
    struct packet *packet = unused;
    if (packet)
        unused = packet->next;
    else if (!(packet = malloc(sizeof *packet)))
        fail("malloc");
    return packet;
}

static void give_back(struct packet *packet)
{
    packet->next = unused;
    unused = packet;
}

/* When the trace lets the last byte of a packet go. */
static uint64_t chance_for(struct direction *way, size_t length, uint64_t time)
{
    const struct settings *set = &way->set;
    uint64_t period = set->trace[set->chances - 1];
    uint64_t passed = (time - traces_began) / 1000000u;
    for (;;) {
        uint64_t at = way->chance / set->chances * period + set->trace[way->chance % set->chances];
        if (at >= passed) {
            if (way->room >= length) {
                way->room -= length;
                uint64_t leaves = traces_began + at * 1000000u;
                return leaves > time ? leaves : time;
            }
            length -= way->room;
        }
        way->chance++;
        way->room = MTU;
    }
}

/* When a packet that enters now will have left the queue; 0 if the queue is full. */
static uint64_t queued_until(struct direction *way, size_t length, uint64_t time)
{
    struct waiting *queue = &way->waiting;
    if (way->underway == MOST_UNDERWAY)
        return 0;
    if (!way->set.trace && way->set.rate <= 0)
        return time;
    while (queue->count && queue->until[queue->first] <= time) {
        queue->bytes -= queue->length[queue->first];
        queue->first = (queue->first + 1) % MOST_UNDERWAY;
        queue->count--;
    }
    if (queue->count == MOST_UNDERWAY || (way->set.queue > 0 && queue->bytes + (double)length > way->set.queue))
        return 0;
    uint64_t leaves;
    if (way->set.trace) {
        leaves = chance_for(way, length, time);
    } else {
        leaves = (way->idle_at > time ? way->idle_at : time) + (uint64_t)((double)length / way->set.rate);
        way->idle_at = leaves;
    }
    size_t place = (queue->first + queue->count++) % MOST_UNDERWAY;
    queue->until[place] = leaves;
    queue->length[place] = (uint16_t)length;
    queue->bytes += (double)length;
    return leaves;
}

/* Whether the link loses a packet: a cut, by chance, or in a burst. */
static bool is_lost(struct direction *way)
{
    const struct settings *set = &way->set;
    if (set->enter > 0 && happens(&way->losses, way->is_bursting ? set->leave : set->enter))
        way->is_bursting = !way->is_bursting;
    bool by_chance = happens(&way->losses, set->loss);
    return is_cut || way->is_bursting || by_chance;
}

/* Whether a packet exceeds what the policer allows. */
static bool exceeds(struct direction *way, size_t length, uint64_t time)
{
    if (way->set.police <= 0)
        return false;
    way->tokens += (double)(time - way->tokens_at) * way->set.police;
    way->tokens_at = time;
    if (way->tokens > way->set.bucket)
        way->tokens = way->set.bucket;
    if (way->tokens < (double)length)
        return true;
    way->tokens -= (double)length;
    return false;
}

/* Corrupts UDP over IPv4 only. A checksum of 0 means that there is none (RFC 768). */
static void corrupt(struct direction *way, struct packet *packet)
{
    unsigned char *data = packet->data;
    size_t udp = (size_t)(data[0] & 15) * 4, payload = udp + 8;
    if (data[0] >> 4 != 4 || data[9] != IPPROTO_UDP || packet->length <= payload)
        return;
    double place = draw(&way->faults) * (double)(8 * (packet->length - payload));
    data[payload + (size_t)place / 8] ^= (unsigned char)(1 << (size_t)place % 8);
    data[udp + 6] = data[udp + 7] = 0;
    way->corrupted++;
}

/* How much the delay is exceeded now, ns. */
static double jitter(struct direction *way, uint64_t time)
{
    if (way->set.jitter > 0 && time - way->jitter_at > JITTER_LASTS) {
        way->jitter = way->set.jitter * draw(&way->jitters);
        way->jitter_at = time;
    }
    return way->jitter;
}

/* Schedules a packet out of order. */
static void carry_late(struct direction *way, struct packet *packet)
{
    struct packet **place = &way->late;
    while (*place && (*place)->due <= packet->due)
        place = &(*place)->next;
    packet->next = *place;
    *place = packet;
}

/* Schedules a packet that `left` the queue. */
static void carry(struct direction *way, struct packet *packet, uint64_t left, double delay)
{
    packet->due = left + (uint64_t)delay;
    way->underway++;
    if (happens(&way->faults, way->set.reordering)) {
        packet->due += (uint64_t)(2 * (delay > LEAST_DELAY ? delay : LEAST_DELAY) * draw(&way->faults));
        way->reordered++;
        carry_late(way, packet);
    } else if (happens(&way->faults, way->set.late)) {
        packet->due += (uint64_t)way->set.jitter + LATENESS;
        way->late_ones++;
        carry_late(way, packet);
    } else {
        if (packet->due < way->newest)
            packet->due = way->newest;
        way->newest = packet->due;
        packet->next = NULL;
        *way->last = packet;
        way->last = &packet->next;
    }
}

static void admit(struct direction *way, struct packet *packet)
{
    uint64_t time = now(), left = 0;
    way->small += packet->length < SMALL;
    if (is_lost(way))
        way->lost++;
    else if (exceeds(way, packet->length, time))
        way->policed++;
    else if (!(left = queued_until(way, packet->length, time)))
        way->dropped++;
    if (!left) {
        give_back(packet);
        return;
    }
    double delay = way->set.delay + jitter(way, time);
    if (happens(&way->faults, way->set.corruption))
        corrupt(way, packet);
    if (happens(&way->faults, way->set.duplication)) {
        struct packet *copy = take();
        *copy = *packet;
        carry(way, copy, left, delay);
        way->duplicated++;
    }
    carry(way, packet, left, delay);
}

static void enter(struct direction *way)
{
    for (int i = 0; i < BATCH; i++) {
        struct packet *packet = take();
        ssize_t length = read(way->from, packet->data, MTU);
        if (length <= 0) {
            give_back(packet);
            return;
        }
        packet->length = (size_t)length;
        admit(way, packet);
    }
}

/* The packet that is due first, or NULL. */
static struct packet *next(const struct direction *way)
{
    return way->late && (!way->first || way->late->due < way->first->due) ? way->late : way->first;
}

static void leave(struct direction *way, uint64_t time)
{
    struct packet *packet;
    while ((packet = next(way)) && packet->due <= time) {
        if (packet == way->late)
            way->late = packet->next;
        else if (!(way->first = packet->next))
            way->last = &way->first;
        way->underway--;
        if (write(way->to, packet->data, packet->length) < 0) {
            way->dropped++;
        } else {
            way->packets++;
            way->bytes += packet->length;
        }
        give_back(packet);
    }
}

/* Signals are read from a descriptor, so that none is missed and none interrupts a call. */
static int catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGHUP, SIGQUIT};
    sigset_t caught;
    sigemptyset(&caught);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaddset(&caught, numbers[i]);
    sigprocmask(SIG_BLOCK, &caught, NULL);
    int signals = signalfd(-1, &caught, SFD_CLOEXEC);
    if (signals < 0)
        fail("signalfd");
    return signals;
}

static void report(const char *name, const struct direction *way)
{
    printf("%s: %" PRIu64 " packets, %" PRIu64 " bytes, %" PRIu64 " lost, %" PRIu64 " dropped by the queue", name,
           way->packets, way->bytes, way->lost, way->dropped);
    printf(", %" PRIu64 " policed, %" PRIu64 " late, %" PRIu64 " duplicated, %" PRIu64 " reordered", way->policed,
           way->late_ones, way->duplicated, way->reordered);
    printf(", %" PRIu64 " corrupted, %" PRIu64 " small\n", way->corrupted, way->small);
}

static void report_all(const struct direction ways[2])
{
    report("near to far", &ways[UP]);
    report("far to near", &ways[DOWN]);
    fflush(stdout);
}

static void begin_traces(struct direction ways[2])
{
    traces_began = now();
    for (int i = 0; i < 2; i++) {
        ways[i].chance = 0;
        ways[i].room = MTU;
    }
}

static void obey(struct direction ways[2], int signals)
{
    struct signalfd_siginfo signal;
    if (read(signals, &signal, sizeof signal) != sizeof signal)
        fail("signalfd");
    switch (signal.ssi_signo) {
    case SIGUSR1:
    case SIGUSR2:
        is_cut = signal.ssi_signo == SIGUSR1;
        break;
    case SIGHUP:
        begin_traces(ways);
        break;
    case SIGQUIT:
        report_all(ways);
        break;
    default:
        is_ended = true;
    }
}

static void run(struct direction ways[2], int signals)
{
    while (!is_ended) {
        uint64_t time = now(), due = UINT64_MAX;
        for (int i = 0; i < 2; i++) {
            leave(&ways[i], time);
            struct packet *packet = next(&ways[i]);
            if (packet && packet->due < due)
                due = packet->due;
        }
        struct pollfd sources[3] = {{ways[0].from, POLLIN, 0}, {ways[1].from, POLLIN, 0}, {signals, POLLIN, 0}};
        time = now();
        uint64_t wait = due > time ? due - time : 0;
        struct timespec timeout = {(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};
        if (ppoll(sources, 3, due == UINT64_MAX ? NULL : &timeout, NULL) < 0 && errno != EINTR)
            fail("ppoll");
        for (int i = 0; i < 2; i++)
            if (sources[i].revents & POLLIN)
                enter(&ways[i]);
        if (sources[2].revents & POLLIN)
            obey(ways, signals);
    }
}

static void refuse(const char *expected, const char *word)
{
    fprintf(stderr, "link: expected %s, found %s\n", expected, word);
    exit(2);
}

/* Reads a trace. Exits if it is not one. */
static void read_trace(struct settings *set, const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        refuse("a trace that can be read", path);
    size_t space = 0;
    uint32_t at;
    set->chances = 0;
    while (fscanf(file, "%" SCNu32, &at) == 1) {
        if (set->chances == space) {
            space = space ? 2 * space : 4096;
            if (!(set->trace = realloc(set->trace, space * sizeof *set->trace)))
                fail("realloc");
        }
        if (set->chances && at < set->trace[set->chances - 1])
            refuse("rising times in a trace", path);
        set->trace[set->chances++] = at;
    }
    if (!feof(file) || !set->chances || !set->trace[set->chances - 1])
        refuse("a trace of whole milliseconds that is longer than 0", path);
    fclose(file);
}

/* The number from 0 to `most` at the beginning of `text`; `end` must follow it. NULL: it is not there. */
static const char *number(const char *text, char end, double most, double unit, double *number)
{
    char *after;
    double value = strtod(text, &after);
    *number = value * unit;
    return after != text && *after == end && value >= 0 && value <= most ? after + 1 : NULL;
}

/* Sets what one word says. Exits if it says nothing. */
static void obey_word(struct settings *set, const char *word, const char *whole)
{
    const struct {
        const char *name;
        double *first, *second;         /* `second`: after a colon */
        double unit, other_unit, most;
    } keys[] = {
        {"delay", &set->delay, NULL, 1e6, 0, 1e6},
        {"jitter", &set->jitter, NULL, 1e6, 0, 1e6},
        {"rate", &set->rate, NULL, 1 / 8e3, 0, 1e6},
        {"queue", &set->queue, NULL, 1024, 0, 1e6},
        {"police", &set->police, &set->bucket, 1 / 8e3, 1024, 1e6},
        {"burst", &set->enter, &set->leave, 0.01, 0.01, 100},
        {"loss", &set->loss, NULL, 0.01, 0, 100},
        {"late", &set->late, NULL, 0.01, 0, 100},
        {"duplication", &set->duplication, NULL, 0.01, 0, 100},
        {"reordering", &set->reordering, NULL, 0.01, 0, 100},
        {"corruption", &set->corruption, NULL, 0.01, 0, 100},
    };
    const char *value = strchr(word, '=');
    if (!value)
        refuse("KEY=VALUE", whole);
    size_t length = (size_t)(value++ - word);
    if (length == 5 && !strncmp(word, "trace", 5)) {
        read_trace(set, value);
        return;
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strlen(keys[i].name) != length || strncmp(word, keys[i].name, length))
            continue;
        const char *rest = number(value, keys[i].second ? ':' : 0, keys[i].most, keys[i].unit, keys[i].first);
        if (rest && keys[i].second)
            rest = number(rest, 0, keys[i].most, keys[i].other_unit, keys[i].second);
        if (!rest)
            refuse(keys[i].second ? "two numbers from 0 with a colon between them, percentages up to 100"
                                  : "a number from 0, percentages up to 100", whole);
        return;
    }
    refuse("a known key", whole);
}

int main(int count, char **words)
{
    static struct direction ways[2];
    if (count < 4) {
        fprintf(stderr, "usage: link NEAR FAR SEED [down:|up:]KEY=VALUE...\n");
        return 2;
    }
    for (int i = 4; i < count; i++) {
        bool down = !strncmp(words[i], "down:", 5), up = !strncmp(words[i], "up:", 3);
        const char *word = words[i] + (down ? 5 : up ? 3 : 0);
        if (!up)
            obey_word(&ways[DOWN].set, word, words[i]);
        if (!down)
            obey_word(&ways[UP].set, word, words[i]);
    }
    char *rest;
    uint64_t seed = strtoull(words[3], &rest, 10);
    if (rest == words[3] || *rest)
        refuse("a whole number as the seed", words[3]);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1);
    int signals = catch_signals();
    int near = open_device(words[1]), far = open_device(words[2]);
    ways[UP].from = ways[DOWN].to = near;
    ways[DOWN].from = ways[UP].to = far;
    ways[UP].losses = seed;
    ways[DOWN].losses = ~seed;
    for (int i = 0; i < 2; i++) {
        ways[i].last = &ways[i].first;
        ways[i].faults = ways[i].losses + 1;
        ways[i].jitters = ways[i].losses + 2;
        ways[i].tokens = ways[i].set.bucket;
        ways[i].tokens_at = ways[i].jitter_at = now();
    }
    begin_traces(ways);
    printf("up\n");
    fflush(stdout);
    run(ways, signals);
    report_all(ways);
    return 0;
}
