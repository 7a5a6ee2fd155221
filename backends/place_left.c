#include "backends/place.h"

#include <stdio.h>

/* Apart from place.c, which modules cannot have: the registry is the program's. */

void place_tell_left(const struct place_left *left,
                     void (*each)(void *data, const struct place_check *check), void *data)
{
    char detail[512];
    bool ok = left->found == left->removed;

    (void)snprintf(detail, sizeof(detail),
                   left->found ? "%u of servers that are gone, %u of them removed%s%.200s" : "none",
                   left->found, left->removed, left->failed ? ": " : "",
                   left->failed ? left->failed : "");
    each(data, &(struct place_check){
                   .name = left->name, .ok = ok, .detail = detail, .fix = ok ? NULL : left->fix});
}
