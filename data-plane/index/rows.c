/* Rows on disk, many at a time: a fault waits for one page, and the next row's fault comes after
 * it; asked for together, the disk has them all to do at once. */
#include "index/rows.h"

#include <sys/mman.h>

#define PAGE_MASK ((uintptr_t)4095)
#define RESIDENT_MAX 65u /* pages of a row of 65,536 floats, and one more for where it begins */

void
dp_rows_fetch(const dp_rows *rows, const unsigned char *const *at, size_t n)
{
    const size_t bytes = rows->dim * dp_elem_bytes(rows->elem);

    if (!rows->on_disk || n < 2) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const uintptr_t begin = (uintptr_t)at[i] & ~PAGE_MASK;
        const size_t length = (((uintptr_t)at[i] + bytes + PAGE_MASK) & ~PAGE_MASK) - begin;
        unsigned char resident[RESIDENT_MAX];
        unsigned char all = 1;

        /* Asking whether it is there costs a fifth of asking for it, and mostly it is. */
        if (length / (PAGE_MASK + 1) > RESIDENT_MAX ||
            mincore((void *)begin, length, resident) != 0) {
            continue;
        }
        for (size_t p = 0; p < length / (PAGE_MASK + 1); p++) {
            all &= resident[p];
        }
        if ((all & 1) == 0) {
            (void)madvise((void *)begin, length, MADV_WILLNEED);
        }
    }
}
