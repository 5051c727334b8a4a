/* link: joins two network namespaces by a link with a delay, losses, a rate and a queue.
 *
 *   link NEAR FAR DELAY_MS LOSS_PERCENT RATE_MBIT QUEUE_KIB SEED
 *
 * NEAR and FAR are names below /run/netns; each gets a TUN device called "link". Each direction
 * is on its own: the delay is one way, the queue drops what comes when it is full, a rate or a
 * queue of 0 is none. The same seed loses the same packets of a direction, counted from its first.
 *
 * Says "up" once the devices exist. SIGUSR1 cuts the link (whatever enters it is dropped), SIGUSR2
 * mends it. SIGTERM ends it, and it says what went through; so does the death of its parent.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <net/if.h>
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

enum { MTU = 1500, BATCH = 64, MOST_UNDERWAY = 1 << 16 };

struct packet {
    struct packet *next;
    uint64_t due; /* when it arrives, ns */
    size_t length;
    unsigned char data[MTU];
};

struct direction {
    int from, to;
    struct packet *first, **last; /* underway, in the order in which they are due */
    int underway;
    uint64_t idle_at; /* when the rate has let out everything that is queued, ns */
    uint64_t random;
    uint64_t packets, bytes, lost, dropped;
};

struct settings {
    uint64_t delay; /* ns */
    double loss;    /* 0 to 1 */
    double rate;    /* bytes per ns; 0: no limit */
    double queue;   /* bytes; 0: no limit */
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

/* When a packet that enters now has left the queue; 0: the queue is full. */
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
        uint64_t left = 0;
        if (is_cut || draw(&way->random) < set->loss)
            way->lost++;
        else if (!(left = queued_until(way, set, packet->length, now())))
            way->dropped++;
        if (!left) {
            give_back(packet);
            continue;
        }
        packet->due = left + set->delay;
        packet->next = NULL;
        *way->last = packet;
        way->last = &packet->next;
        way->underway++;
    }
}

static void leave(struct direction *way, uint64_t time)
{
    struct packet *packet;
    while ((packet = way->first) && packet->due <= time) {
        if (!(way->first = packet->next))
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

/* Signals are read like anything else, so that none is missed and none interrupts. */
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
            if (ways[i].first && ways[i].first->due < due)
                due = ways[i].first->due;
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

int main(int count, char **words)
{
    if (count != 8) {
        fprintf(stderr, "usage: link NEAR FAR DELAY_MS LOSS_PERCENT RATE_MBIT QUEUE_KIB SEED\n");
        return 2;
    }
    struct settings set = {
        .delay = (uint64_t)(atof(words[3]) * 1e6),
        .loss = atof(words[4]) / 100,
        .rate = atof(words[5]) / 8000,
        .queue = atof(words[6]) * 1024,
    };
    uint64_t seed = strtoull(words[7], NULL, 10);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1);
    int signals = catch_signals();
    int near = open_device(words[1]), far = open_device(words[2]);
    struct direction ways[2] = {{.from = near, .to = far, .random = seed}, {.from = far, .to = near, .random = ~seed}};
    for (int i = 0; i < 2; i++)
        ways[i].last = &ways[i].first;
    printf("up\n");
    fflush(stdout);
    run(ways, &set, signals);
    for (int i = 0; i < 2; i++)
        printf("%s: %" PRIu64 " packets, %" PRIu64 " bytes, %" PRIu64 " lost, %" PRIu64 " dropped by the queue\n",
               i ? "far to near" : "near to far", ways[i].packets, ways[i].bytes, ways[i].lost, ways[i].dropped);
    return 0;
}
