/* tests/support/shard_model.h: a small shard over dp_log and dp_points as a collection keeps one,
 * and beside it what it should hold. Used by the tests of storage/. */
#ifndef TESTS_SUPPORT_SHARD_MODEL_H
#define TESTS_SUPPORT_SHARD_MODEL_H
#include <stdint.h>

#include "storage/points.h"

#ifndef MODEL_IDS
#define MODEL_IDS 3000u /* of which every third is a UUID */
#endif
enum {
    MODEL_DIM = 5,
    MODEL_OP_PUT = 1,
    MODEL_OP_KILL = 2,
};

/* What a point should be: all of it follows from its id's number and a seed. seed 0: no point. */
typedef struct {
    uint32_t seed;
    uint64_t version;
} model_point;

typedef struct {
    dp_log *log;
    dp_points *points;
    uint64_t applied;
    model_point points_want[MODEL_IDS];
    dp_log_found found;
} shard_model;

ort_point_id model_id(uint32_t i);

/* Opens the shard and replays; points_want is the caller's to keep right. */
ort_err shard_model_open(shard_model *m, int dir_fd, ort_diag *diag);
void shard_model_close(shard_model *m);

/* Makes one operation of `count` puts or kills of ids first.., durable and applied. */
ort_err shard_model_op(shard_model *m, uint16_t op, uint32_t first, uint32_t count, uint32_t seed,
                       ort_diag *diag);

/* Applies an operation whose record is durable. */
ort_err shard_model_apply(shard_model *m, uint64_t lsn, uint16_t op, uint32_t first, uint32_t count,
                          uint32_t seed, ort_diag *diag);
ort_err shard_model_checkpoint(shard_model *m, bool merge_all, ort_diag *diag);

/* Compares all of the shard with points_want, by every way of reading; aborts with a message. */
void shard_model_check(shard_model *m);

/* Compares what a slot holds with what `point` says of id i. */
void shard_model_check_slot(shard_model *m, dp_reader *r, uint32_t slot, uint32_t i,
                            model_point point);

/* Applies an operation to points_want only. */
void model_apply(model_point *want, uint64_t lsn, uint16_t op, uint32_t first, uint32_t count,
                 uint32_t seed);
#endif /* TESTS_SUPPORT_SHARD_MODEL_H */
