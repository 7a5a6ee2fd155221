#ifndef CELLBLOCK_LOCAL_MACHINE_H
#define CELLBLOCK_LOCAL_MACHINE_H

#include "backends/local/cells.h"

/* The machine_* functions of local_place_ops (place.h). */
struct machine *local_machine_new(struct place *place, const struct machine_events *events,
                                  void *data);
void local_machine_start(struct machine *m, const struct start_request *request);
void local_machine_interrupt(struct machine *m);
int local_machine_signal(struct machine *m, int number);
void local_machine_kill(struct machine *m);
void local_machine_close(struct machine *m, void (*closed)(void *data), void *data);
void local_machine_busy(struct machine *m, bool busy);
const char *local_machine_folder(const struct machine *m);

void local_file(struct machine *m, const struct file_request *request, file_done done, void *data);
/* What goes on on its files is given up soon. */
void local_files_stop(struct local_machine *m);

/* Its cell could not be made in one way and the place has turned to another. */
void machine_try_again(struct local_machine *m);

/* What goes on on a thread of the pool (a copy, an operation on files) holds the machine. */
void machine_hold(struct local_machine *m);
void machine_release(struct local_machine *m);

#endif
