#ifndef CELLBLOCK_LOCAL_CELL_PARTS_H
#define CELLBLOCK_LOCAL_CELL_PARTS_H

#include "backends/local/cells.h"

/* Between cells.c (the life of a cell), cell_ask.c (how it is made) and cell_link.c (its streams).
 */

/* cells.c */
void cell_end_stream(struct cell_stream *stream);
void cell_close_far(struct live_cell *cell);
void cell_read_status(struct live_cell *cell); /* every report that is there */
void cell_child_closed(struct child *child);   /* of a solo cell: it and its folder may be freed */

/* cell_link.c */
extern const struct link_ops cell_link_ops;
/* Called for the machine that takes the cell: nobody listens before. */
void cell_start_streams(struct live_cell *cell);

#endif
