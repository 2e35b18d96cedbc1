/* Writes PutMetricData bodies for cloudwatch_botocore.py. One JSON object a line on stdin:
 *
 *   {"namespace": "X", "period": 60, "json": false, "gzip": true,
 *    "data": [{"metric": "Send", "time": 1767323040, "count": 37, "dimensions": [["campaign", "april"]]}]}
 *
 * and for each as many bodies as its data need: {"head": {...}, "data": 1000, "body": "<hex>"} a line on stdout. */
#include "egress/cloudwatch.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static struct slice text_of(json_t *value)
{
        return slice_of(json_string_value(value), json_string_length(value));
}

static void print_slice(const char *name, struct slice text, const char *after)
{
        printf("\"%s\":", name);
        json_t *value = json_stringn(text.ptr == NULL ? "" : (const char *)text.ptr, text.len);
        (void)json_dumpf(value, stdout, JSON_ENCODE_ANY);
        json_decref(value);
        printf("%s", after);
}

static struct metrics_datum datum_of(json_t *input)
{
        struct metrics_datum datum = {
                .metric = text_of(json_object_get(input, "metric")),
                .time_s = json_integer_value(json_object_get(input, "time")),
                .count = (uint64_t)json_integer_value(json_object_get(input, "count")),
        };
        size_t i;
        json_t *pair;
        json_array_foreach(json_object_get(input, "dimensions"), i, pair)
        {
                datum.dimensions[datum.dimensions_count].name = text_of(json_array_get(pair, 0));
                datum.dimensions[datum.dimensions_count++].value = text_of(json_array_get(pair, 1));
        }
        return datum;
}

static void print_body(struct cloudwatch_body *body, struct cloudwatch_gzip *gzip, bool compress)
{
        static uint8_t packed[2 * LIMIT_CLOUDWATCH_CALL_BYTES_MAX];
        struct slice bytes = slice_of(body->bytes, cloudwatch_body_finish(body));
        if (compress)
                bytes = slice_of(packed, cloudwatch_gzip_run(gzip, bytes, packed, sizeof(packed)));
        const struct cloudwatch_head head = cloudwatch_head_of(body->json, compress);
        printf("{\"head\":{");
        print_slice("path", head.path, ",");
        print_slice("content_type", head.content_type, ",");
        print_slice("target", head.amz_target, ",");
        print_slice("fields", head.fields, "},");
        printf("\"data\":%u,\"body\":\"", body->data);
        for (size_t i = 0; i < bytes.len; i++)
                printf("%02x", bytes.ptr[i]);
        printf("\"}\n");
}

int main(void)
{
        static uint8_t bytes[LIMIT_CLOUDWATCH_CALL_BYTES_MAX];
        struct cloudwatch_gzip *gzip;
        struct err err = {0};
        if (cloudwatch_gzip_create(&gzip, &err) != ERR_OK) {
                (void)fprintf(stderr, "%s\n", err.text);
                return 1;
        }
        char *line = NULL;
        size_t room = 0;
        ssize_t got;
        while ((got = getline(&line, &room, stdin)) > 0) {
                json_t *input = json_loadb(line, (size_t)got, 0, NULL);
                if (input == NULL) {
                        (void)fprintf(stderr, "not JSON: %s", line);
                        return 1;
                }
                const struct rules_cloudwatch config = {
                        .namespace = text_of(json_object_get(input, "namespace")),
                        .period_s = (uint32_t)json_integer_value(json_object_get(input, "period")),
                        .json = json_is_true(json_object_get(input, "json")),
                };
                bool compress = json_is_true(json_object_get(input, "gzip"));
                struct cloudwatch_body body;
                cloudwatch_body_begin(&body, &config, bytes, sizeof(bytes));
                size_t i;
                json_t *item;
                json_array_foreach(json_object_get(input, "data"), i, item)
                {
                        struct metrics_datum datum = datum_of(item);
                        if (cloudwatch_body_add(&body, &datum) == ERR_OK)
                                continue;
                        print_body(&body, gzip, compress);
                        cloudwatch_body_begin(&body, &config, bytes, sizeof(bytes));
                        if (cloudwatch_body_add(&body, &datum) != ERR_OK)
                                return 1;
                }
                print_body(&body, gzip, compress);
                (void)fflush(stdout); /* the reader says when it is gone */
                json_decref(input);
        }
        free(line);
        cloudwatch_gzip_free(gzip);
        return 0;
}
