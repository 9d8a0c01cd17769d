/* optctl status: the lines about what was not finite, and about the loss scale. */
#ifndef OPTD_CLIENT_OPTCTL_FINITE_H
#define OPTD_CLIENT_OPTCTL_FINITE_H

#include <jansson.h>

#include "client/optd.h"

/* Puts a further lane's part into the model's total. */
void optctl_finite_add(optd_status_row *total, const optd_status_row *row);
void optctl_finite_print(const optd_status_row *row);
void optctl_finite_json(json_t *model, const optd_status_row *row);

#endif
