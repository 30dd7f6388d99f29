/* control-plane/tenancy/region.h: rules for regions. Errors: tenancy.h. */
#ifndef CP_REGION_H
#define CP_REGION_H
#include "store/regions.h"
#include "tenancy/tenancy.h"

#define CP_REGIONS_MAX 256

/* display may be "". Op region.create. */
ORT_NODISCARD ort_err cp_region_create(cp_tenancy *tenancy, const cp_author *author,
                                       const char *name, const char *display, cp_region *out,
                                       uint64_t *version_out, ort_diag *diag);

/* ORT_ECONFLICT: a node stands in it, or a tenant is pinned to it. Op region.delete. */
ORT_NODISCARD ort_err cp_region_delete(cp_tenancy *tenancy, const cp_author *author,
                                       const char *name, uint64_t *version_out, ort_diag *diag);
#endif /* CP_REGION_H */
