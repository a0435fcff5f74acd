/*
 * Where things are: the service's folders for root and the user pool, the XDG base directories for everybody
 * else (XDG Base Directory Specification 0.8: a variable that is not an absolute path is as if it were not
 * set), and what follows from them as defaults. Makes paths absolute; creates nothing and checks for the
 * existence of one file only.
 */
#include "core/config_loader.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

#define SERVICE_USER   "pool"
#define PASSWD_MAX     16384 /* bytes of one entry of the user database */
#define HOST_NAME_SIZE 65    /* HOST_NAME_MAX and its NUL */

const char *config_environment(const struct pool_config_sources *sources, const char *name)
{
    size_t n = strlen(name);
    for (const char *const *at = sources->environment; at && *at; at++) {
        if (strncmp(*at, name, n) == 0 && (*at)[n] == '=')
            return (*at)[n + 1] ? *at + n + 1 : NULL;
    }
    return NULL;
}

static bool set_text(char **ret, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        return false;
    free(*ret);
    *ret = copy;
    return true;
}

static bool join(char **ret, const char *folder, const char *rest)
{
    char *path;
    if (asprintf(&path, "%s/%s", folder, rest) < 0)
        return false;
    free(*ret);
    *ret = path;
    return true;
}

/* Takes "//", "/./" and a "/" at the end out, in place. ".." stays: behind a symbolic link it is not what it seems. */
static void tidy_path(char *path)
{
    char *to = path;
    for (const char *from = path; *from;) {
        if (from[0] == '/' && (from[1] == '/' || (from[1] == '.' && (from[2] == '/' || from[2] == '\0'))))
            from += from[1] == '/' ? 1 : 2;
        else
            *to++ = *from++;
    }
    while (to > path + 1 && to[-1] == '/')
        to--;
    if (to == path)
        *to++ = '/';
    *to = '\0';
}

bool config_resolve_path(struct config_loader *l, const struct config_input *in, const char *key,
                         const char *text, char **ret_path)
{
    char working_dir[PATH_MAX];
    const char *folder = "";
    if (text[0] == '~' && (text[1] == '/' || text[1] == '\0')) {
        folder = l->places.home;
        text++;
        if (!folder) {
            config_problem(l, in, key, "there is no home folder to put in for ~");
            return true;
        }
    } else if (text[0] != '/') {
        folder = in->node ? l->file_dir : getcwd(working_dir, sizeof working_dir);
        if (!folder) {
            config_problem(l, in, key, "the working folder is not known: %s", strerrordesc_np(errno));
            return true;
        }
    }
    CLEANUP_FREE char *path = NULL;
    if (!join(&path, folder, text))
        return false;
    tidy_path(path);
    if (strlen(path) >= PATH_MAX)
        config_problem(l, in, key, "the path is longer than %d bytes", PATH_MAX - 1);
    else
        *ret_path = take_ptr(&path);
    return true;
}

/* An XDG folder with "pool-core" behind it; `fallback` is below the home folder. */
static bool find_xdg(struct config_loader *l, const char *variable, const char *fallback, char **ret)
{
    const char *dir = config_environment(l->sources, variable);
    if (dir && dir[0] == '/')
        return join(ret, dir, "pool-core");
    if (!fallback || !l->places.home)
        return true;
    CLEANUP_FREE char *base = NULL;
    return join(&base, l->places.home, fallback) && join(ret, base, "pool-core");
}

static void read_host_name(char name[HOST_NAME_SIZE])
{
    if (gethostname(name, HOST_NAME_SIZE - 1) != 0)
        name[0] = '\0';
    name[HOST_NAME_SIZE - 1] = '\0';
    for (char *c = name; *c; c++) {
        bool is_letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        if (!is_letter && (c == name || (*c != '.' && *c != '-' && *c != '_')))
            *c = c == name ? 'x' : '-';
    }
    if (name[0] == '\0')
        memcpy(name, "localhost", sizeof "localhost");
}

/* Homes are shared between hosts, so each has a state folder of its own; see machine-id(5). */
static bool add_machine(struct config_loader *l)
{
    char host_name[HOST_NAME_SIZE];
    CLEANUP(strbuf_done) struct strbuf id = STRBUF_INIT(4096);
    int failure = file_read("/etc/machine-id", &id);
    if (failure == ENOMEM)
        return false;
    const char *machine = strbuf_text(&id);
    size_t n = strspn(machine, "0123456789abcdef");
    if (failure == 0 && n == 32 && (machine[n] == '\n' || machine[n] == '\0')) {
        id.data[n] = '\0';
    } else {
        read_host_name(host_name);
        machine = host_name;
    }
    return join(&l->places.state_dir, l->places.state_dir, machine);
}

bool config_find_places(struct config_loader *l)
{
    struct config_places *p = &l->places;
    char buffer[PASSWD_MAX];
    struct passwd entry;
    struct passwd *user = NULL;
    if (getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &user) == ENOMEM)
        return false;
    const char *home = config_environment(l->sources, "HOME");
    if ((!home || home[0] != '/') && user)
        home = user->pw_dir;
    if (home && home[0] == '/' && !set_text(&p->home, home))
        return false;
    if (p->home)
        tidy_path(p->home);
    p->is_service = geteuid() == 0 || (user && strcmp(user->pw_name, SERVICE_USER) == 0);
    if (p->is_service)
        return set_text(&p->config_dir, "/etc/pool-core") && set_text(&p->state_dir, "/var/lib/pool-core") &&
               set_text(&p->data_dir, "/var/lib/pool-core") && set_text(&p->runtime_dir, "/run/pool-core");
    return find_xdg(l, "XDG_CONFIG_HOME", ".config", &p->config_dir) &&
           find_xdg(l, "XDG_STATE_HOME", ".local/state", &p->state_dir) &&
           (!p->state_dir || add_machine(l)) && find_xdg(l, "XDG_DATA_HOME", ".local/share", &p->data_dir) &&
           find_xdg(l, "XDG_RUNTIME_DIR", NULL, &p->runtime_dir);
}

static bool set_list_of_one(char ***ret, size_t *ret_n, const char *folder, const char *rest)
{
    char **list = calloc(1, sizeof *list);
    if (!list)
        return false;
    if (!join(&list[0], folder, rest)) {
        free(list);
        return false;
    }
    *ret = list;
    *ret_n = 1;
    return true;
}

static bool default_catalogs(struct config_loader *l)
{
    if (!l->places.config_dir)
        return true;
    CLEANUP_FREE char *path = NULL;
    if (!join(&path, l->places.config_dir, "catalog.toml"))
        return false;
    /* A file that is there but closed to us is named, so that reading it says why it can not be read. */
    if (access(path, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR))
        return true;
    return set_list_of_one(&l->config->catalogs, &l->config->n_catalogs, l->places.config_dir,
                           "catalog.toml");
}

static bool default_folder(struct config_loader *l, const struct config_key *key, const char *folder)
{
    if (!folder)
        config_problem(l, NULL, key->name, "there is no home folder for a default; set HOME or %s",
                       key->name);
    return folder != NULL;
}

bool config_default(struct config_loader *l, const struct config_key *key, void *base)
{
    struct pool_config *config = l->config;
    const struct config_places *p = &l->places;
    char host_name[HOST_NAME_SIZE];
    char **field = (char **)((char *)base + key->offset);
    if (field == &config->pool_id || field == &config->advertise_host) {
        read_host_name(host_name);
        return set_text(field, host_name);
    }
    if (field == &config->state_dir)
        return !default_folder(l, key, p->state_dir) || set_text(field, p->state_dir);
    if ((char ***)field == &config->models_dirs)
        return !default_folder(l, key, p->data_dir) ||
               set_list_of_one(&config->models_dirs, &config->n_models_dirs, p->data_dir, "models");
    if ((char ***)field == &config->catalogs)
        return default_catalogs(l);
    return true; /* the socket: config_complete_paths, when the state folder is known */
}

bool config_complete_paths(struct config_loader *l)
{
    struct pool_config *config = l->config;
    if (!config->state_dir)
        return true; /* reported */
    const char *socket_dir =
        config->is_state_dir_explicit || !l->places.runtime_dir ? config->state_dir : l->places.runtime_dir;
    if (!config->daemon_socket && !join(&config->daemon_socket, socket_dir, "daemon.sock"))
        return false;
    if (!config->registry_url || strcmp(config->registry_url, "sqlite:") != 0)
        return true;
    char *url;
    if (asprintf(&url, "sqlite:%s/pool.db", config->state_dir) < 0)
        return false;
    free(config->registry_url);
    config->registry_url = url;
    return true;
}
