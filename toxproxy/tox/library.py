"""Finds and opens libtoxcore, and declares the part of its C interface that is used here.

cffi opens the library in ABI mode, so that installing toxproxy needs no compiler. Structures stay
opaque. The functions and enumerations below have not changed since 0.2.12.

Versions: 0.2.12 is refused, since any node can overflow its stack (CVE-2021-44847, fixed in 0.2.13).
0.2.19 to 0.2.22 have another overflow (GHSA-42vg-9mg3-399f, fixed in 0.2.23). They cause a warning
only, since a distribution may have fixed its package without a new version number.
"""

from __future__ import annotations

import ctypes.util
import functools
import os
from collections.abc import Iterator
from typing import Any

from cffi import FFI

from toxproxy.errors import ToxproxyError

OVERRIDE = "TOXPROXY_LIBTOXCORE"
OLDEST_VERSION = (0, 2, 13)
DOUBTFUL_VERSIONS = (0, 2, 19), (0, 2, 22)  # the first and the last

_KNOWN_PLACES = (
    "libtoxcore.so.2",
    "libtoxcore.2.dylib",
    "/opt/homebrew/lib/libtoxcore.2.dylib",
    "/usr/local/lib/libtoxcore.2.dylib",
    "/usr/local/lib/libtoxcore.so.2",
    "libtoxcore.dll",  # as MinGW names it, and MSVC
    "toxcore.dll",
)

_HOW_TO_INSTALL = (
    "install it (Debian, Ubuntu: apt install libtoxcore2; Arch: pacman -S toxcore; "
    f"Alpine: apk add toxcore; macOS: brew install toxcore) or set {OVERRIDE} to its file"
)

ffi = FFI()
ffi.cdef("""
typedef struct Tox Tox;
typedef struct Tox_Options Tox_Options;

uint32_t tox_version_major(void);
uint32_t tox_version_minor(void);
uint32_t tox_version_patch(void);
bool tox_version_is_compatible(uint32_t major, uint32_t minor, uint32_t patch);

typedef enum { TOX_ERR_OPTIONS_NEW_OK, TOX_ERR_OPTIONS_NEW_MALLOC } Tox_Err_Options_New;
Tox_Options *tox_options_new(Tox_Err_Options_New *error);
void tox_options_free(Tox_Options *options);
void tox_options_set_ipv6_enabled(Tox_Options *options, bool enabled);
void tox_options_set_udp_enabled(Tox_Options *options, bool enabled);
void tox_options_set_local_discovery_enabled(Tox_Options *options, bool enabled);
void tox_options_set_hole_punching_enabled(Tox_Options *options, bool enabled);
void tox_options_set_proxy_type(Tox_Options *options, int type);
void tox_options_set_proxy_host(Tox_Options *options, const char *host);
void tox_options_set_proxy_port(Tox_Options *options, uint16_t port);
void tox_options_set_start_port(Tox_Options *options, uint16_t port);
void tox_options_set_end_port(Tox_Options *options, uint16_t port);
void tox_options_set_tcp_port(Tox_Options *options, uint16_t port);
void tox_options_set_savedata_type(Tox_Options *options, int type);
void tox_options_set_savedata_data(Tox_Options *options, const uint8_t *data, size_t length);

typedef enum {
    TOX_ERR_NEW_OK, TOX_ERR_NEW_NULL, TOX_ERR_NEW_MALLOC, TOX_ERR_NEW_PORT_ALLOC,
    TOX_ERR_NEW_PROXY_BAD_TYPE, TOX_ERR_NEW_PROXY_BAD_HOST, TOX_ERR_NEW_PROXY_BAD_PORT,
    TOX_ERR_NEW_PROXY_NOT_FOUND, TOX_ERR_NEW_LOAD_ENCRYPTED, TOX_ERR_NEW_LOAD_BAD_FORMAT
} Tox_Err_New;
Tox *tox_new(const Tox_Options *options, Tox_Err_New *error);
void tox_kill(Tox *tox);
size_t tox_get_savedata_size(const Tox *tox);
void tox_get_savedata(const Tox *tox, uint8_t *savedata);

void tox_iterate(Tox *tox, void *user_data);
uint32_t tox_iteration_interval(const Tox *tox);

typedef enum {
    TOX_ERR_BOOTSTRAP_OK, TOX_ERR_BOOTSTRAP_NULL, TOX_ERR_BOOTSTRAP_BAD_HOST, TOX_ERR_BOOTSTRAP_BAD_PORT
} Tox_Err_Bootstrap;
bool tox_bootstrap(Tox *tox, const char *host, uint16_t port, const uint8_t *key, Tox_Err_Bootstrap *error);
bool tox_add_tcp_relay(Tox *tox, const char *host, uint16_t port, const uint8_t *key,
                       Tox_Err_Bootstrap *error);

int tox_self_get_connection_status(const Tox *tox);
void tox_self_get_address(const Tox *tox, uint8_t *address);
void tox_self_get_public_key(const Tox *tox, uint8_t *key);
void tox_self_get_secret_key(const Tox *tox, uint8_t *key);
void tox_self_get_dht_id(const Tox *tox, uint8_t *key);
typedef enum { TOX_ERR_GET_PORT_OK, TOX_ERR_GET_PORT_NOT_BOUND } Tox_Err_Get_Port;
uint16_t tox_self_get_udp_port(const Tox *tox, Tox_Err_Get_Port *error);
uint16_t tox_self_get_tcp_port(const Tox *tox, Tox_Err_Get_Port *error);

typedef enum { TOX_ERR_SET_INFO_OK, TOX_ERR_SET_INFO_NULL, TOX_ERR_SET_INFO_TOO_LONG } Tox_Err_Set_Info;
bool tox_self_set_name(Tox *tox, const uint8_t *name, size_t length, Tox_Err_Set_Info *error);
size_t tox_self_get_name_size(const Tox *tox);
void tox_self_get_name(const Tox *tox, uint8_t *name);
bool tox_self_set_status_message(Tox *tox, const uint8_t *text, size_t length, Tox_Err_Set_Info *error);

typedef enum {
    TOX_ERR_FRIEND_ADD_OK, TOX_ERR_FRIEND_ADD_NULL, TOX_ERR_FRIEND_ADD_TOO_LONG,
    TOX_ERR_FRIEND_ADD_NO_MESSAGE, TOX_ERR_FRIEND_ADD_OWN_KEY, TOX_ERR_FRIEND_ADD_ALREADY_SENT,
    TOX_ERR_FRIEND_ADD_BAD_CHECKSUM, TOX_ERR_FRIEND_ADD_SET_NEW_NOSPAM, TOX_ERR_FRIEND_ADD_MALLOC
} Tox_Err_Friend_Add;
uint32_t tox_friend_add(Tox *tox, const uint8_t *address, const uint8_t *message, size_t length,
                        Tox_Err_Friend_Add *error);
uint32_t tox_friend_add_norequest(Tox *tox, const uint8_t *key, Tox_Err_Friend_Add *error);
typedef enum { TOX_ERR_FRIEND_DELETE_OK, TOX_ERR_FRIEND_DELETE_FRIEND_NOT_FOUND } Tox_Err_Friend_Delete;
bool tox_friend_delete(Tox *tox, uint32_t friend, Tox_Err_Friend_Delete *error);
bool tox_friend_exists(const Tox *tox, uint32_t friend);
typedef enum {
    TOX_ERR_FRIEND_BY_PUBLIC_KEY_OK, TOX_ERR_FRIEND_BY_PUBLIC_KEY_NULL,
    TOX_ERR_FRIEND_BY_PUBLIC_KEY_NOT_FOUND
} Tox_Err_Friend_By_Public_Key;
uint32_t tox_friend_by_public_key(const Tox *tox, const uint8_t *key, Tox_Err_Friend_By_Public_Key *error);
typedef enum {
    TOX_ERR_FRIEND_GET_PUBLIC_KEY_OK, TOX_ERR_FRIEND_GET_PUBLIC_KEY_FRIEND_NOT_FOUND
} Tox_Err_Friend_Get_Public_Key;
bool tox_friend_get_public_key(const Tox *tox, uint32_t friend, uint8_t *key,
                               Tox_Err_Friend_Get_Public_Key *error);
size_t tox_self_get_friend_list_size(const Tox *tox);
void tox_self_get_friend_list(const Tox *tox, uint32_t *list);
typedef enum {
    TOX_ERR_FRIEND_QUERY_OK, TOX_ERR_FRIEND_QUERY_NULL, TOX_ERR_FRIEND_QUERY_FRIEND_NOT_FOUND
} Tox_Err_Friend_Query;
int tox_friend_get_connection_status(const Tox *tox, uint32_t friend, Tox_Err_Friend_Query *error);
size_t tox_friend_get_name_size(const Tox *tox, uint32_t friend, Tox_Err_Friend_Query *error);
bool tox_friend_get_name(const Tox *tox, uint32_t friend, uint8_t *name, Tox_Err_Friend_Query *error);

typedef enum {
    TOX_ERR_FRIEND_SEND_MESSAGE_OK, TOX_ERR_FRIEND_SEND_MESSAGE_NULL,
    TOX_ERR_FRIEND_SEND_MESSAGE_FRIEND_NOT_FOUND, TOX_ERR_FRIEND_SEND_MESSAGE_FRIEND_NOT_CONNECTED,
    TOX_ERR_FRIEND_SEND_MESSAGE_SENDQ, TOX_ERR_FRIEND_SEND_MESSAGE_TOO_LONG,
    TOX_ERR_FRIEND_SEND_MESSAGE_EMPTY
} Tox_Err_Friend_Send_Message;
uint32_t tox_friend_send_message(Tox *tox, uint32_t friend, int type, const uint8_t *message, size_t length,
                                 Tox_Err_Friend_Send_Message *error);
typedef enum {
    TOX_ERR_FRIEND_CUSTOM_PACKET_OK, TOX_ERR_FRIEND_CUSTOM_PACKET_NULL,
    TOX_ERR_FRIEND_CUSTOM_PACKET_FRIEND_NOT_FOUND, TOX_ERR_FRIEND_CUSTOM_PACKET_FRIEND_NOT_CONNECTED,
    TOX_ERR_FRIEND_CUSTOM_PACKET_INVALID, TOX_ERR_FRIEND_CUSTOM_PACKET_EMPTY,
    TOX_ERR_FRIEND_CUSTOM_PACKET_TOO_LONG, TOX_ERR_FRIEND_CUSTOM_PACKET_SENDQ
} Tox_Err_Friend_Custom_Packet;
bool tox_friend_send_lossy_packet(Tox *tox, uint32_t friend, const uint8_t *data, size_t length,
                                  Tox_Err_Friend_Custom_Packet *error);
bool tox_friend_send_lossless_packet(Tox *tox, uint32_t friend, const uint8_t *data, size_t length,
                                     Tox_Err_Friend_Custom_Packet *error);

typedef void self_status_cb(Tox *, int status, void *);
typedef void request_cb(Tox *, const uint8_t *key, const uint8_t *message, size_t length, void *);
typedef void friend_status_cb(Tox *, uint32_t friend, int status, void *);
typedef void friend_bytes_cb(Tox *, uint32_t friend, const uint8_t *data, size_t length, void *);
typedef void message_cb(Tox *, uint32_t friend, int type, const uint8_t *message, size_t length, void *);
void tox_callback_self_connection_status(Tox *tox, self_status_cb *callback);
void tox_callback_friend_request(Tox *tox, request_cb *callback);
void tox_callback_friend_connection_status(Tox *tox, friend_status_cb *callback);
void tox_callback_friend_message(Tox *tox, message_cb *callback);
void tox_callback_friend_name(Tox *tox, friend_bytes_cb *callback);
void tox_callback_friend_lossy_packet(Tox *tox, friend_bytes_cb *callback);
void tox_callback_friend_lossless_packet(Tox *tox, friend_bytes_cb *callback);

// libsodium, with which libtoxcore is linked
typedef struct {
    const char *(*implementation_name)(void);
    uint32_t (*random)(void);
    void (*stir)(void);
    uint32_t (*uniform)(const uint32_t upper_bound);
    void (*buf)(void *const buf, const size_t size);
    int (*close)(void);
} randombytes_implementation;
extern randombytes_implementation randombytes_sysrandom_implementation;
extern randombytes_implementation randombytes_internal_implementation;
const char *randombytes_implementation_name(void);
int randombytes_set_implementation(randombytes_implementation *implementation);
int crypto_scalarmult_curve25519_base(uint8_t *public, const uint8_t *secret);
int crypto_box_keypair(uint8_t *public, uint8_t *secret);
int crypto_box_easy(uint8_t *box, const uint8_t *text, unsigned long long length, const uint8_t *nonce,
                    const uint8_t *public, const uint8_t *secret);
""")


class LibraryMissing(ToxproxyError):
    """libtoxcore is not installed, or too old or too new. The text says how to install it."""


@functools.cache
def load() -> Any:
    """The opened library; each call returns the same object. Raises `LibraryMissing`."""
    for place in _places():
        try:
            library: Any = ffi.dlopen(place)
        except OSError:
            continue
        _check_version(library, place)
        return library
    if override := os.environ.get(OVERRIDE):
        raise LibraryMissing(f"{OVERRIDE} names {override}, which is not a library that can be opened")
    raise LibraryMissing(f"libtoxcore was not found: {_HOW_TO_INSTALL}")


def version() -> str:
    """The version of the library, such as "0.2.18". Raises `LibraryMissing`."""
    return ".".join(map(str, _version(load())))


def warning() -> str | None:
    """A warning about the library's version, or None. Raises `LibraryMissing`."""
    return doubt(_version(load()))


def doubt(found: tuple[int, int, int]) -> str | None:
    """What is wrong with a doubtful version, and what to do; None for other versions."""
    first, last = DOUBTFUL_VERSIONS
    if not first <= found <= last:
        return None
    return (
        f"libtoxcore {'.'.join(map(str, found))} has a flaw by which any node of the network may take over "
        "this process (GHSA-42vg-9mg3-399f), unless your distribution has fixed it: see the changelog of its "
        "package, or install 0.2.23"
    )


def _version(library: Any) -> tuple[int, int, int]:
    return library.tox_version_major(), library.tox_version_minor(), library.tox_version_patch()


def _places() -> Iterator[str]:
    if place := os.environ.get(OVERRIDE):
        yield place
        return
    yield from _KNOWN_PLACES
    # Last, since it may start a compiler.
    if found := ctypes.util.find_library("toxcore"):
        yield found


def _check_version(library: Any, place: str) -> None:
    """Raise `LibraryMissing` for a version that is too old or too new.

    0.2.x is compatible with 0.2.y if x > y (tox.h).
    """
    try:
        compatible = library.tox_version_is_compatible(*OLDEST_VERSION)
        found = ".".join(map(str, _version(library)))
    except AttributeError:
        raise LibraryMissing(f"{place} is not libtoxcore: {_HOW_TO_INSTALL}") from None
    if not compatible:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise LibraryMissing(
            f"{place} is libtoxcore {found}, expected {oldest} or a later 0.2 "
            f"(0.2.12 can be taken over by any node, CVE-2021-44847): {_HOW_TO_INSTALL}"
        )
