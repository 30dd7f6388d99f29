/* Counters, gauges, histograms and their text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "metrics/metrics.h"

static ort_metrics *
registry(void)
{
    ort_metrics *m = NULL;
    assert_int_equal(ort_metrics_new(&m), ORT_OK);
    return m;
}

static const char *
text_of(ort_metrics *m, ort_buf *out)
{
    ort_buf_clear(out);
    assert_int_equal(ort_metrics_write(m, out), ORT_OK);
    return ort_buf_peek_cstr(out);
}

static void
the_same_name_and_labels_are_the_same_metric(void **state)
{
    ort_metrics *m = registry();
    ort_label a[] = {{"code", "200"}};
    ort_label b[] = {{"code", "404"}};

    (void)state;
    ort_counter *x = ort_metrics_counter(m, "orthant_x_total", "X.", a, 1);
    assert_ptr_equal(x, ort_metrics_counter(m, "orthant_x_total", "X.", a, 1));
    assert_ptr_not_equal(x, ort_metrics_counter(m, "orthant_x_total", "X.", b, 1));
    ort_counter_add(x, 3);
    assert_int_equal(ort_counter_value(x), 3);
    ort_metrics_free(m);
}

static void
values_are_shown_as_prometheus_text(void **state)
{
    static const double bounds[] = {0.1, 1, 10};
    ort_metrics *m = registry();
    ort_label odd[] = {{"name", "a\"b\\c\nd"}};
    ort_buf out = {0};

    (void)state;
    ort_counter_add(
        ort_metrics_counter(m, "orthant_b_total", "Things.\nMore \\ \"words\".", odd, 1), 7);
    ort_gauge *g = ort_metrics_gauge(m, "orthant_a_ratio", "A.", NULL, 0);
    ort_gauge_set(g, 0.25);
    ort_gauge_add(g, 0.5);
    ort_histogram *h = ort_metrics_histogram(m, "orthant_c_seconds", "C.", bounds, 3, NULL, 0);
    ort_histogram_observe(h, 0.1); /* a bound belongs to its bucket */
    ort_histogram_observe(h, 5);
    ort_histogram_observe(h, 50);
    ort_histogram_observe(h, NAN); /* dropped */
    assert_string_equal(text_of(m, &out), "# HELP orthant_a_ratio A.\n"
                                          "# TYPE orthant_a_ratio gauge\n"
                                          "orthant_a_ratio 0.75\n"
                                          "# HELP orthant_b_total Things.\\nMore \\\\ \"words\".\n"
                                          "# TYPE orthant_b_total counter\n"
                                          "orthant_b_total{name=\"a\\\"b\\\\c\\nd\"} 7\n"
                                          "# HELP orthant_c_seconds C.\n"
                                          "# TYPE orthant_c_seconds histogram\n"
                                          "orthant_c_seconds_bucket{le=\"0.1\"} 1\n"
                                          "orthant_c_seconds_bucket{le=\"1\"} 1\n"
                                          "orthant_c_seconds_bucket{le=\"10\"} 2\n"
                                          "orthant_c_seconds_bucket{le=\"+Inf\"} 3\n"
                                          "orthant_c_seconds_sum 55.1\n"
                                          "orthant_c_seconds_count 3\n");
    ort_buf_fini(&out);
    ort_metrics_free(m);
}

/* A label that outsiders choose must not fill the memory: the rest is one series. */
static void
series_of_one_name_are_bounded(void **state)
{
    ort_metrics *m = registry();
    ort_buf out = {0};
    char value[32];

    (void)state;
    for (int i = 0; i < 5000; i++) {
        ort_label label = {"who", value};
        (void)snprintf(value, sizeof value, "w%d", i);
        ort_counter_add(ort_metrics_counter(m, "orthant_w_total", "W.", &label, 1), 1);
    }
    const char *text = text_of(m, &out);
    size_t lines = 0;
    for (const char *p = text; (p = strstr(p, "orthant_w_total{")) != NULL; p++) {
        lines++;
    }
    assert_int_equal(lines, ORT_METRICS_SERIES_MAX);
    const char *other = strstr(text, "who=\"_other\"} ");
    assert_non_null(other);
    assert_int_equal(atoi(other + strlen("who=\"_other\"} ")), 5000 - (ORT_METRICS_SERIES_MAX - 1));
    ort_buf_fini(&out);
    ort_metrics_free(m);
}

static void
quantiles_lie_in_their_bucket(void **state)
{
    ort_metrics *m = registry();
    ort_histogram *h = ort_metrics_histogram(m, "orthant_q_seconds", "Q.", NULL, 0, NULL, 0);

    (void)state;
    assert_true(ort_histogram_quantile(h, 0.5) == 0);
    for (int i = 0; i < 99; i++) {
        ort_histogram_observe(h, 0.0015);
    }
    ort_histogram_observe(h, 0.2);
    assert_true(ort_histogram_quantile(h, 0.5) > 0.001 && ort_histogram_quantile(h, 0.5) < 0.002);
    assert_true(ort_histogram_quantile(h, 0.999) > 0.125);
    assert_int_equal(ort_histogram_count(h), 100);
    ort_metrics_free(m);
}

static void *
count_many(void *arg)
{
    ort_metrics *m = arg;
    for (int i = 0; i < 20000; i++) {
        ort_label label = {"n", i % 2 == 0 ? "even" : "odd"};
        ort_counter_add(ort_metrics_counter(m, "orthant_t_total", "T.", &label, 1), 1);
        ort_histogram_observe(ort_metrics_histogram(m, "orthant_t_seconds", "T.", NULL, 0, NULL, 0),
                              0.001);
    }
    return NULL;
}

static void
nothing_is_lost_between_threads(void **state)
{
    ort_metrics *m = registry();
    pthread_t threads[8];
    ort_label even = {"n", "even"};
    ort_buf out = {0};

    (void)state;
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count_many, m), 0);
    }
    for (int i = 0; i < 10; i++) {
        (void)text_of(m, &out);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(ort_counter_value(ort_metrics_counter(m, "orthant_t_total", "T.", &even, 1)),
                     80000);
    assert_non_null(strstr(text_of(m, &out), "orthant_t_seconds_count 160000\n"));
    ort_buf_fini(&out);
    ort_metrics_free(m);
}

static void
tenants(ort_metrics_out *out, void *user)
{
    (void)user;
    for (int i = 0; i < 2; i++) {
        ort_label label = {"tenant", i == 0 ? "acme" : "globex"};
        ort_metrics_emit(out, ORT_METRIC_GAUGE, "orthant_tenant_points", "Points.", &label, 1, i);
    }
}

static void
collectors_and_process_metrics_are_shown(void **state)
{
    ort_metrics *m = registry();
    ort_buf out = {0};

    (void)state;
    assert_int_equal(ort_metrics_process(m), ORT_OK);
    assert_int_equal(ort_metrics_collect(m, tenants, NULL), ORT_OK);
    const char *text = text_of(m, &out);
    assert_non_null(strstr(text, "# TYPE orthant_tenant_points gauge\n"
                                 "orthant_tenant_points{tenant=\"acme\"} 0\n"
                                 "orthant_tenant_points{tenant=\"globex\"} 1\n"));
    static const char *const names[] = {"\northant_memory_usage_bytes ",
                                        "\northant_memory_limit_bytes ", "\nprocess_open_fds "};
    for (size_t i = 0; i < 3; i++) {
        const char *at = strstr(text, names[i]);
        assert_non_null(at);
        assert_true(atof(at + strlen(names[i])) > 0);
    }
    assert_non_null(strstr(text, "\northant_cpu_usage_ratio "));
    ort_buf_fini(&out);
    ort_metrics_free(m);
}

static void
process_load_is_plausible(void **state)
{
    ort_process_last last = {0};
    ort_process_load load;
    volatile double x = 0;

    (void)state;
    ort_process_load_read(&last, &load);
    assert_true(load.cpu_ratio == 0);
    for (int i = 0; i < 20000000; i++) {
        x += i;
    }
    assert_true(x > 0);
    ort_process_load_read(&last, &load);
    assert_true(load.cpu_ratio > 0 && load.cpu_ratio <= 1);
    assert_true(load.cpu_count > 0);
    assert_true(load.memory_usage_bytes > 100000);
    assert_true(load.memory_limit_bytes > load.memory_usage_bytes);
}

/* The judge of what Prometheus takes is Prometheus. */
static void
promtool_finds_nothing_to_say(void **state)
{
    ort_metrics *m = registry();
    ort_buf out = {0};
    ort_label odd[] = {{"name", "a\"b\\c\nd"}};

    (void)state;
    if (system("command -v promtool >/dev/null 2>&1") != 0) {
        print_message("promtool is not installed (package prometheus): skipped\n");
        ort_metrics_free(m);
        skip();
    }
    ort_counter_add(ort_metrics_counter(m, "orthant_things_total", "Things.", odd, 1), 7);
    ort_gauge_set(ort_metrics_gauge(m, "orthant_level_ratio", "A.", NULL, 0), -INFINITY);
    ort_histogram_observe(ort_metrics_histogram(m, "orthant_wait_seconds", "C.", NULL, 0, odd, 1),
                          1);
    assert_int_equal(ort_metrics_process(m), ORT_OK);
    assert_int_equal(ort_metrics_collect(m, tenants, NULL), ORT_OK);
    (void)text_of(m, &out);
    FILE *pipe = popen("promtool check metrics", "w");
    assert_non_null(pipe);
    assert_int_equal(fwrite(out.data, 1, out.len, pipe), out.len);
    assert_int_equal(pclose(pipe), 0);
    ort_buf_fini(&out);
    ort_metrics_free(m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_name_and_labels_are_the_same_metric),
        cmocka_unit_test(values_are_shown_as_prometheus_text),
        cmocka_unit_test(series_of_one_name_are_bounded),
        cmocka_unit_test(quantiles_lie_in_their_bucket),
        cmocka_unit_test(nothing_is_lost_between_threads),
        cmocka_unit_test(collectors_and_process_metrics_are_shown),
        cmocka_unit_test(process_load_is_plausible),
        cmocka_unit_test(promtool_finds_nothing_to_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
