/* link: joins two network namespaces with an emulated link: delay, rate, queue and faults.
 *
 *   link NEAR FAR DELAY_MS LOSS RATE_MBIT QUEUE_KIB DUPLICATION REORDERING CORRUPTION SEED
 *
 * NEAR and FAR are names below /run/netns; each gets a TUN device called "link". The two directions
 * are independent: the delay is one way, and a full queue drops what arrives. A rate or a queue of 0
 * means no limit. The same seed loses the same packets of a direction, counted from the first.
 *
 * The faults are percentages of the packets. A duplicate arrives together with its original. A
 * reordered packet arrives up to two delays late. A corrupted packet has one bit of its UDP payload
 * flipped and no checksum, so that the receiver's kernel accepts it.
 *
 * Prints "up" once the devices exist. SIGUSR1 cuts the link (every packet that enters is dropped),
 * SIGUSR2 restores it. SIGTERM, or the death of the parent, ends it; it then prints what it carried.
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

enum { MTU = 1500, BATCH = 64, MOST_UNDERWAY = 1 << 16, LEAST_DELAY = 1000000 /* ns */ };

struct packet {
    struct packet *next;
    uint64_t due; /* when it arrives, ns */
    size_t length;
    unsigned char data[MTU];
};

struct direction {
    int from, to;
    struct packet *first, **last; /* under way, sorted by `due` */
    struct packet *late;          /* the reordered ones, sorted by `due` */
    int underway;                 /* how many packets both lists hold */
    uint64_t idle_at;             /* when the queue will be empty, ns */
    uint64_t losses, faults;      /* states of `draw`; two, so that other faults do not change the losses */
    uint64_t packets, bytes, lost, dropped, duplicated, reordered, corrupted;
};

struct settings {
    uint64_t delay; /* ns */
    double rate;    /* bytes per ns; 0: no limit */
    double queue;   /* bytes; 0: no limit */
    double loss, duplication, reordering, corruption; /* 0 to 1 */
};

static struct packet *unused;
static bool is_cut, is_ended;

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

/* When a packet that enters now will have left the queue; 0 if the queue is full. */
static uint64_t queued_until(struct direction *way, const struct settings *set, size_t length, uint64_t time)
{
    uint64_t start = way->idle_at > time ? way->idle_at : time;
    if (way->underway == MOST_UNDERWAY)
        return 0;
    if (set->rate > 0) {
        double waiting = (double)(start - time) * set->rate;
        if (set->queue > 0 && waiting + (double)length > set->queue)
            return 0;
        start += (uint64_t)((double)length / set->rate);
        way->idle_at = start;
    }
    return start;
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

/* Schedules a packet that `left` the queue: it arrives after the delay, or later if it is reordered. */
static void carry(struct direction *way, const struct settings *set, struct packet *packet, uint64_t left)
{
    packet->due = left + set->delay;
    way->underway++;
    if (!happens(&way->faults, set->reordering)) {
        packet->next = NULL;
        *way->last = packet;
        way->last = &packet->next;
        return;
    }
    uint64_t delay = set->delay > LEAST_DELAY ? set->delay : LEAST_DELAY;
    packet->due += (uint64_t)(2 * (double)delay * draw(&way->faults));
    struct packet **place = &way->late;
    while (*place && (*place)->due <= packet->due)
        place = &(*place)->next;
    packet->next = *place;
    *place = packet;
    way->reordered++;
}

static void admit(struct direction *way, const struct settings *set, struct packet *packet)
{
    uint64_t left = 0;
    if (is_cut || happens(&way->losses, set->loss))
        way->lost++;
    else if (!(left = queued_until(way, set, packet->length, now())))
        way->dropped++;
    if (!left) {
        give_back(packet);
        return;
    }
    if (happens(&way->faults, set->corruption))
        corrupt(way, packet);
    if (happens(&way->faults, set->duplication)) {
        struct packet *copy = take();
        *copy = *packet;
        carry(way, set, copy, left);
        way->duplicated++;
    }
    carry(way, set, packet, left);
}

static void enter(struct direction *way, const struct settings *set)
{
    for (int i = 0; i < BATCH; i++) {
        struct packet *packet = take();
        ssize_t length = read(way->from, packet->data, MTU);
        if (length <= 0) {
            give_back(packet);
            return;
        }
        packet->length = (size_t)length;
        admit(way, set, packet);
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
    static const int numbers[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
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

static void obey(int signals)
{
    struct signalfd_siginfo signal;
    if (read(signals, &signal, sizeof signal) != sizeof signal)
        fail("signalfd");
    if (signal.ssi_signo == SIGUSR1 || signal.ssi_signo == SIGUSR2)
        is_cut = signal.ssi_signo == SIGUSR1;
    else
        is_ended = true;
}

static void run(struct direction ways[2], const struct settings *set, int signals)
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
                enter(&ways[i], set);
        if (sources[2].revents & POLLIN)
            obey(signals);
    }
}

static void report(const char *name, const struct direction *way)
{
    printf("%s: %" PRIu64 " packets, %" PRIu64 " bytes, %" PRIu64 " lost, %" PRIu64 " dropped by the queue", name,
           way->packets, way->bytes, way->lost, way->dropped);
    printf(", %" PRIu64 " duplicated, %" PRIu64 " reordered, %" PRIu64 " corrupted\n", way->duplicated,
           way->reordered, way->corrupted);
}

int main(int count, char **words)
{
    if (count != 11) {
        fprintf(stderr, "usage: link NEAR FAR DELAY_MS LOSS RATE_MBIT QUEUE_KIB"
                        " DUPLICATION REORDERING CORRUPTION SEED\n");
        return 2;
    }
    struct settings set = {
        .delay = (uint64_t)(atof(words[3]) * 1e6),
        .loss = atof(words[4]) / 100,
        .rate = atof(words[5]) / 8000,
        .queue = atof(words[6]) * 1024,
        .duplication = atof(words[7]) / 100,
        .reordering = atof(words[8]) / 100,
        .corruption = atof(words[9]) / 100,
    };
    uint64_t seed = strtoull(words[10], NULL, 10);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1);
    int signals = catch_signals();
    int near = open_device(words[1]), far = open_device(words[2]);
    struct direction ways[2] = {{.from = near, .to = far, .losses = seed}, {.from = far, .to = near, .losses = ~seed}};
    for (int i = 0; i < 2; i++) {
        ways[i].last = &ways[i].first;
        ways[i].faults = ways[i].losses + 1;
    }
    printf("up\n");
    fflush(stdout);
    run(ways, &set, signals);
    report("near to far", &ways[0]);
    report("far to near", &ways[1]);
    return 0;
}
