/* shared/base/point.h: named places in the code where a crash would be interesting. The checking
 * builds call whatever a test has set there, elsewhere they are nothing. tests/fault kills a
 * process at each of them; test_node_points compares their names with those it was killed at. */
#ifndef ORT_POINT_H
#define ORT_POINT_H

#if ORT_CHECK
/* What every point calls, with its name; NULL: nothing. Before threads start. */
void ort_point_set(void (*fn)(const char *name));
void ort_point(const char *name);
#else
static inline void
ort_point(const char *name)
{
    (void)name;
}
#endif
#endif /* ORT_POINT_H */
