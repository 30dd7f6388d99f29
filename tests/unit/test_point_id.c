/* Point ids: what is accepted, how it prints, how it sorts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/point_id.h"

static void
every_form_of_a_uuid_prints_in_one(void **state)
{
    static const char *forms[] = {
        "550e8400-e29b-41d4-a716-446655440000", "550E8400E29B41D4A716446655440000",
        "{550e8400-e29b-41d4-a716-446655440000}", "urn:uuid:550e8400-e29b-41d4-A716-446655440000"};
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        ort_point_id id, back;
        char text[ORT_POINT_ID_TEXT_BYTES];
        unsigned char bytes[ORT_POINT_ID_BYTES];
        assert_int_equal(ort_point_id_parse(forms[i], strlen(forms[i]), true, &id, NULL), ORT_OK);
        assert_int_equal(ort_point_id_format(id, text), 36);
        assert_string_equal(text, forms[0]);
        ort_point_id_encode(id, bytes);
        assert_int_equal(bytes[1], 0x55);
        assert_int_equal(ort_point_id_decode(bytes, &back), ORT_OK);
        assert_true(ort_point_id_eq(id, back));
    }
}

static void
numbers_are_exact_over_64_bits(void **state)
{
    ort_point_id id;
    char text[ORT_POINT_ID_TEXT_BYTES];
    (void)state;
    assert_int_equal(ort_point_id_parse("18446744073709551615", 20, true, &id, NULL), ORT_OK);
    ort_point_id_format(id, text);
    assert_string_equal(text, "18446744073709551615");
    assert_int_not_equal(ort_point_id_hash(id), ort_point_id_hash(ort_point_id_of(1)));
}

static void
what_is_no_id_is_refused_in_words(void **state)
{
    static const char *wrong[] = {"",
                                  "-1",
                                  "1.0",
                                  "18446744073709551616",
                                  "abc",
                                  "550e8400-e29b-41d4-a716-44665544000",
                                  "550e8400-e29b-41d4-a716-44665544000g",
                                  "550e8400_e29b_41d4_a716_446655440000"};
    ort_diag diag;
    ort_point_id id;
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(ort_point_id_parse(wrong[i], strlen(wrong[i]), true, &id, &diag),
                         ORT_EINVAL);
    }
    assert_int_equal(ort_point_id_parse("12", 2, false, &id, &diag), ORT_EINVAL);
    assert_string_equal(diag.text, "value 12 is not a valid point ID, valid values are either an "
                                   "unsigned integer or a UUID");
}

static void
numbers_come_before_uuids(void **state)
{
    ort_point_id one = ort_point_id_of(1), big = ort_point_id_of(UINT64_MAX), uuid;
    (void)state;
    assert_int_equal(ort_point_id_parse("00000000000000000000000000000000", 32, true, &uuid, NULL),
                     ORT_OK);
    assert_true(ort_point_id_cmp(one, big) < 0);
    assert_true(ort_point_id_cmp(uuid, big) > 0);
    assert_int_equal(ort_point_id_cmp(uuid, uuid), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_a_uuid_prints_in_one),
        cmocka_unit_test(numbers_are_exact_over_64_bits),
        cmocka_unit_test(what_is_no_id_is_refused_in_words),
        cmocka_unit_test(numbers_come_before_uuids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
