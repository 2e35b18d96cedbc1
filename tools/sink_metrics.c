/* The file of accepted PutMetricData calls, and what it adds up to. */
#include "base/file.h"
#include "tools/sink_cloudwatch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct sink_metrics {
        char path[4096];
        int fd;
        pthread_mutex_t mutex; /* over writes: one of them may come in pieces */
};

static enum err_code metrics_path(const char *directory, char path[4096], struct err *reterr)
{
        int len = snprintf(path, 4096, "%s/metrics.ndjson", directory);
        return len >= 4096 ? err_set(reterr, ERR_TOO_BIG, "the name of the state directory is too long") : ERR_OK;
}

/* Cuts off what lies behind the last newline. */
static enum err_code metrics_cut(struct sink_metrics *metrics, struct err *reterr)
{
        struct stat status;
        if (fstat(metrics->fd, &status) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "stat %s", metrics->path);
        off_t end = status.st_size;
        while (end > 0) {
                uint8_t bytes[4096];
                off_t begin = end > (off_t)sizeof(bytes) ? end - (off_t)sizeof(bytes) : 0;
                ssize_t got = pread(metrics->fd, bytes, (size_t)(end - begin), begin);
                if (got != end - begin)
                        return err_set_errno(reterr, ERR_SYSTEM, got < 0 ? errno : EIO, "read %s", metrics->path);
                const uint8_t *newline = memrchr(bytes, '\n', (size_t)got);
                if (newline != NULL) {
                        end = begin + (newline - bytes) + 1;
                        break;
                }
                end = begin;
        }
        if (end != status.st_size && ftruncate(metrics->fd, end) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cut %s", metrics->path);
        return ERR_OK;
}

enum err_code sink_metrics_open(struct sink_metrics **ret_metrics, const char *directory, struct err *reterr)
{
        struct sink_metrics *metrics = malloc(sizeof(*metrics));
        if (metrics == NULL)
                return err_set(reterr, ERR_MEMORY, "sink metrics");
        (void)pthread_mutex_init(&metrics->mutex, NULL); /* the default kind cannot fail here */
        metrics->fd = -1;
        enum err_code code = metrics_path(directory, metrics->path, reterr);
        if (code == ERR_OK) {
                metrics->fd = open(metrics->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
                if (metrics->fd < 0)
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "open %s", metrics->path);
        }
        if (code == ERR_OK)
                code = metrics_cut(metrics, reterr);
        if (code != ERR_OK) {
                sink_metrics_close(metrics);
                return code;
        }
        *ret_metrics = metrics;
        return ERR_OK;
}

void sink_metrics_close(struct sink_metrics *metrics)
{
        if (metrics == NULL)
                return;
        if (metrics->fd >= 0)
                (void)close(metrics->fd); /* written with write(2): nothing is left to fail */
        (void)pthread_mutex_destroy(&metrics->mutex);
        free(metrics);
}

enum err_code sink_metrics_append(struct sink_metrics *metrics, const json_t *call, struct err *reterr)
{
        char *text = json_dumps(call, JSON_COMPACT);
        if (text == NULL)
                return err_set(reterr, ERR_MEMORY, "sink metrics");
        size_t len = strlen(text), at = 0;
        text[len++] = '\n'; /* in the place of the NUL */
        enum err_code code = ERR_OK;
        (void)pthread_mutex_lock(&metrics->mutex);
        while (at < len && code == ERR_OK) {
                ssize_t put = write(metrics->fd, text + at, len - at);
                if (put > 0)
                        at += (size_t)put;
                else if (put == 0 || errno != EINTR)
                        code = err_set_errno(reterr, ERR_SYSTEM, put == 0 ? EIO : errno, "write %s", metrics->path);
        }
        (void)pthread_mutex_unlock(&metrics->mutex);
        free(text);
        return code;
}

/* ---------------------------------------------------------------------------------------------- report */

/* `sums` finds the member of `list` by what makes a series. */
static bool metrics_add(json_t *sums, json_t *list, json_t *namespace, json_t *datum)
{
        json_t *identity = json_pack("[O,O,O,O]", namespace, json_array_get(datum, 0), json_array_get(datum, 1),
                                     json_array_get(datum, 2));
        char *key = identity == NULL ? NULL : json_dumps(identity, JSON_COMPACT | JSON_SORT_KEYS);
        bool good = key != NULL;
        double samples = json_number_value(json_array_get(datum, 3)), sum = json_number_value(json_array_get(datum, 4));
        json_t *entry = good ? json_object_get(sums, key) : NULL;
        if (entry != NULL) {
                good = json_real_set(json_object_get(entry, "samples"),
                                     json_real_value(json_object_get(entry, "samples")) + samples) == 0 &&
                       json_real_set(json_object_get(entry, "sum"),
                                     json_real_value(json_object_get(entry, "sum")) + sum) == 0;
        } else if (good) {
                entry = json_pack("{s:O,s:O,s:O,s:O,s:f,s:f}", "namespace", namespace, "metric",
                                  json_array_get(datum, 0), "dimensions", json_array_get(datum, 1), "timestamp",
                                  json_array_get(datum, 2), "samples", samples, "sum", sum);
                good = entry != NULL && json_object_set(sums, key, entry) == 0 && json_array_append(list, entry) == 0;
                json_decref(entry);
        }
        free(key);
        json_decref(identity);
        return good;
}

enum err_code sink_metrics_report(const char *directory, json_t **ret_metrics, struct err *reterr)
{
        char path[4096], *line = NULL;
        enum err_code code = metrics_path(directory, path, reterr);
        if (code != ERR_OK)
                return code;
        json_t *list = json_array(), *sums = json_object();
        if (list == NULL || sums == NULL)
                code = err_set(reterr, ERR_MEMORY, "report");
        FILE *in = code == ERR_OK ? fopen(path, "re") : NULL;
        if (code == ERR_OK && in == NULL && errno != ENOENT)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "open %s", path);
        size_t room = 0, number = 0;
        for (ssize_t got; in != NULL && code == ERR_OK && (got = getline(&line, &room, in)) > 0;) {
                if (line[got - 1] != '\n')
                        break; /* being written, or cut by a kill */
                number++;
                json_t *call = json_loadb(line, (size_t)got, 0, NULL), *datum;
                size_t i;
                if (call == NULL)
                        code = err_set(reterr, ERR_CORRUPT, "%s: line %zu is not JSON", path, number);
                json_array_foreach(json_object_get(call, "data"), i, datum)
                {
                        if (!metrics_add(sums, list, json_object_get(call, "namespace"), datum))
                                code = err_set(reterr, ERR_MEMORY, "report");
                }
                json_decref(call);
        }
        if (in != NULL)
                (void)fclose(in); /* read only */
        free(line);
        json_decref(sums);
        if (code == ERR_OK)
                *ret_metrics = list;
        else
                json_decref(list);
        return code;
}
