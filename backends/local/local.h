#ifndef CELLBLOCK_LOCAL_H
#define CELLBLOCK_LOCAL_H

#include "backends/place.h"

/*
 * The local place: cells on this machine. Theory of operation in cell/cell.h (inside) and cell.h
 * (the server's side).
 */
extern const struct place_ops local_place_ops;

#endif
