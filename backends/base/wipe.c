#include "backends/base/wipe.h"

#include <string.h>

void wipe_texts(json_t *object)
{
    const char *name;
    json_t *text;

    json_object_foreach(object, name, text)
    {
        if (json_is_string(text)) {
            explicit_bzero((char *)json_string_value(text), json_string_length(text));
        }
    }
    json_decref(object);
}
