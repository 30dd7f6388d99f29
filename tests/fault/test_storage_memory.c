/* Memory runs out at the n-th allocation, for n = 1, 2, 3, ... until all goes well: whatever a
 * shard was doing ends in an error, leaks nothing, and leaves a directory that opens with all that
 * was acknowledged. Decoders of single files go the same way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "storage/manifest.h"
#include "support/fail_alloc.h"
#include "support/scratch.h"
#include "support/shard_model.h"

static void
must(ort_err err, const ort_diag *diag)
{
    if (err != ORT_OK) {
        fail_msg("error %d: %s", (int)err, diag->text);
    }
}

/* --- a shard -----------------------------------------------------------------------------------
 */

/* Small: what is opened again and again. */
static scratch
make_shard(shard_model *m)
{
    scratch place = scratch_make();
    ort_diag diag = {{0}};
    memset(m, 0, sizeof *m);
    must(shard_model_open(m, place.fd, &diag), &diag);
    must(shard_model_op(m, MODEL_OP_PUT, 0, 60, 1, &diag), &diag);
    must(shard_model_checkpoint(m, false, &diag), &diag);
    for (uint32_t i = 0; i < 70; i++) {
        must(shard_model_op(m, i % 9 == 4 ? MODEL_OP_KILL : MODEL_OP_PUT, i % 50, 2, i + 9, &diag),
             &diag);
    }
    shard_model_close(m);
    return place;
}

static void
check_shard(shard_model *m, const scratch *place)
{
    ort_diag diag = {{0}};
    dp_verify_report report;
    must(shard_model_open(m, place->fd, &diag), &diag);
    shard_model_check(m);
    shard_model_close(m);
    must(dp_storage_verify(place->fd, (ort_tenant_id){1}, (ort_collection_id){2}, &report, &diag),
         &diag);
}

/* One at a time, each from the same beginning. */
typedef ort_err (*work_fn)(shard_model *m, const scratch *place, ort_diag *diag);

static ort_err
open_and_close(shard_model *m, const scratch *place, ort_diag *diag)
{
    const ort_err err = shard_model_open(m, place->fd, diag);
    if (err == ORT_OK) {
        shard_model_close(m);
    }
    return err;
}

static ort_err
checkpoint_all(shard_model *m, const scratch *place, ort_diag *diag)
{
    (void)place;
    return shard_model_checkpoint(m, true, diag);
}

static ort_err
pack_log(shard_model *m, const scratch *place, ort_diag *diag)
{
    bool packed;
    (void)place;
    return dp_log_pack(m->log, 0, 1, &packed, diag);
}

static ort_err
export_all(shard_model *m, const scratch *place, ort_diag *diag)
{
    dp_export *view;
    (void)place;
    ort_err err = dp_points_export(m->points, dp_log_durable(m->log), &view, diag);
    if (err != ORT_OK) {
        return err;
    }
    dp_reader reader;
    dp_reader_init(&reader, m->points);
    for (uint32_t slot = dp_export_next(view, 0); err == ORT_OK && slot != DP_SLOT_NONE;
         slot = dp_export_next(view, slot + 1)) {
        const char *text;
        size_t len;
        err = dp_points_payload(&reader, slot, &text, &len, diag);
    }
    dp_reader_fini(&reader);
    dp_export_free(view);
    return err;
}

static ort_err
scroll_all(shard_model *m, const scratch *place, ort_diag *diag)
{
    dp_reader reader;
    dp_id_slot out[200];
    size_t n;
    (void)place;
    dp_reader_init(&reader, m->points);
    const ort_err err = dp_points_scroll(&reader, NULL, false, out, 200, &n, diag);
    dp_reader_fini(&reader);
    return err;
}

static ort_err
number_anew(shard_model *m, const scratch *place, ort_diag *diag)
{
    (void)place;
    return dp_points_renumber(m->points, diag);
}

static ort_err
verify_all(shard_model *m, const scratch *place, ort_diag *diag)
{
    dp_verify_report report;
    (void)m;
    return dp_storage_verify(place->fd, (ort_tenant_id){1}, (ort_collection_id){2}, &report, diag);
}

/* open: the shard is open, unarmed, before the work, and is checked and closed behind it. */
static void
fail_each(const char *what, work_fn work, bool open)
{
    shard_model *m = calloc(1, sizeof *m);
    scratch place = make_shard(m);
    uint64_t n = 0;
    bool struck = true;
    while (struck) {
        ort_diag diag = {{0}};
        if (open) {
            must(shard_model_open(m, place.fd, &diag), &diag);
        }
        fail_alloc_arm(++n);
        const ort_err err = work(m, &place, &diag);
        struck = fail_alloc_disarm();
        if (struck ? err != ORT_ENOMEM && err != ORT_OK : err != ORT_OK) {
            fail_msg("%s, allocation %llu: error %d: %s", what, (unsigned long long)n, (int)err,
                     diag.text);
        }
        if (open) {
            shard_model_check(m);
            shard_model_close(m);
        }
        check_shard(m, &place);
        if (open) { /* what the work has done is not to be done already */
            scratch_drop(&place);
            place = make_shard(m);
        }
    }
    print_message("%s: %llu allocations\n", what, (unsigned long long)(n - 1));
    assert_true(n > 1);
    scratch_drop(&place);
    free(m);
}

static void
an_open_survives(void **state)
{
    (void)state;
    fail_each("open", open_and_close, false);
}

static void
a_checkpoint_survives(void **state)
{
    (void)state;
    fail_each("checkpoint", checkpoint_all, true);
}

static void
packing_the_log_survives(void **state)
{
    (void)state;
    fail_each("pack", pack_log, true);
}

static void
readers_survive(void **state)
{
    (void)state;
    fail_each("export", export_all, true);
    fail_each("scroll", scroll_all, true);
}

static void
renumbering_survives(void **state)
{
    (void)state;
    fail_each("renumber", number_anew, true);
}

static void
verification_survives(void **state)
{
    (void)state;
    fail_each("verify", verify_all, false);
}

/* --- writes ------------------------------------------------------------------------------------
 */

/* A point that could not be put for want of memory is not there in part, and can be put again. */
static void
writes_survive(void **state)
{
    (void)state;
    shard_model *m = calloc(1, sizeof *m);
    scratch place = make_shard(m);
    ort_diag diag = {{0}};
    uint64_t strikes = 0;
    must(shard_model_open(m, place.fd, &diag), &diag);
    for (uint32_t n = 0; n < 400; n++) {
        dp_log_ticket ticket;
        unsigned char body[12];
        ort_put_u32(body, 100 + n);
        ort_put_u32(body + 4, 1);
        ort_put_u32(body + 8, 1000 + n);
        must(dp_log_append(m->log, MODEL_OP_PUT, body, sizeof body, &ticket, &diag), &diag);
        if (n % 50 == 49) { /* the rest is durable with it */
            must(dp_log_wait(m->log, ticket, &diag), &diag);
        }
        fail_alloc_arm(1);
        ort_err err = shard_model_apply(m, ticket.lsn, MODEL_OP_PUT, 100 + n, 1, 1000 + n, &diag);
        strikes += fail_alloc_disarm();
        if (err != ORT_OK) {
            assert_int_equal(err, ORT_ENOMEM);
            must(shard_model_apply(m, ticket.lsn, MODEL_OP_PUT, 100 + n, 1, 1000 + n, &diag),
                 &diag);
        }
    }
    shard_model_check(m);
    shard_model_close(m);
    check_shard(m, &place);
    print_message("%llu puts met it\n", (unsigned long long)strikes);
    assert_true(strikes > 3);
    scratch_drop(&place);
    free(m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_open_survives),         cmocka_unit_test(a_checkpoint_survives),
        cmocka_unit_test(packing_the_log_survives), cmocka_unit_test(readers_survive),
        cmocka_unit_test(renumbering_survives),     cmocka_unit_test(verification_survives),
        cmocka_unit_test(writes_survive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
