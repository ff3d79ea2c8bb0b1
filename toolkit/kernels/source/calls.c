/* The library's functions as XLA calls them: https://docs.jax.dev/en/latest/ffi.html. */
#include "kernels.h"
#include "team.h"
#include "xla/ffi/api/c_api.h"

/* XLA asks once which version a function was built for. Whether this call is that question. */
static int asked_for_version(XLA_FFI_CallFrame *frame) {
    if (!frame->extension_start || frame->extension_start->type != XLA_FFI_Extension_Metadata)
        return 0;
    XLA_FFI_Metadata *told = ((XLA_FFI_Metadata_Extension *)frame->extension_start)->metadata;
    told->api_version.major_version = XLA_FFI_API_MAJOR;
    told->api_version.minor_version = XLA_FFI_API_MINOR;
    return 1;
}

static XLA_FFI_Error *out_of_memory(XLA_FFI_CallFrame *frame) {
    XLA_FFI_Error_Create_Args args = {0};
    args.struct_size = sizeof args;
    args.message = "No memory beside the result of a kernel.";
    args.errc = XLA_FFI_Error_Code_RESOURCE_EXHAUSTED;
    return frame->api->XLA_FFI_Error_Create(&args);
}

XLA_FFI_Error *toolkit_product(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    XLA_FFI_Buffer *x = frame->args.args[0], *kernel = frame->args.args[1];
    XLA_FFI_Buffer *y = frame->rets.rets[0];
    product(x->data, kernel->data, y->data, x->dims[0], x->dims[1], kernel->dims[0]);
    return 0;
}

XLA_FFI_Error *toolkit_tiled_product(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    XLA_FFI_Buffer *x = frame->args.args[0], *kernel = frame->args.args[1];
    XLA_FFI_Buffer *y = frame->rets.rets[0];
    int done =
        tiled_product(x->data, kernel->data, y->data, x->dims[0], x->dims[1], kernel->dims[0]);
    return done ? 0 : out_of_memory(frame);
}

XLA_FFI_Error *toolkit_rounded_product(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    XLA_FFI_Buffer *x = frame->args.args[0], *kernel = frame->args.args[1];
    XLA_FFI_Buffer *scale = frame->args.args[2], *y = frame->rets.rets[0];
    int done = rounded_product(x->data, kernel->data, scale->data, y->data, x->dims[0], x->dims[1],
                               kernel->dims[0]);
    return done ? 0 : out_of_memory(frame);
}

XLA_FFI_Error *toolkit_moments(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    XLA_FFI_Buffer **given = (XLA_FFI_Buffer **)frame->args.args;
    XLA_FFI_Buffer **made = (XLA_FFI_Buffer **)frame->rets.rets;
    Moments job = {
        .x = given[0]->data,
        .token = given[1]->data,
        .peak = made[0]->data,
        .mass = made[1]->data,
        .weighted = made[2]->data,
        .rank = made[3]->data,
        .rows = given[0]->dims[0],
        .count = given[0]->dims[1],
    };
    moments(&job);
    return 0;
}

XLA_FFI_Error *toolkit_edit(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    XLA_FFI_Buffer **given = (XLA_FFI_Buffer **)frame->args.args;
    Edit job = {
        .logits = given[0]->data,
        .ids = given[1]->data,
        .values = given[2]->data,
        .penalties = given[3]->data,
        .prompted = given[4]->data,
        .counts = given[5]->data,
        .edited = ((XLA_FFI_Buffer *)frame->rets.rets[0])->data,
        .rows = given[0]->dims[0],
        .count = given[0]->dims[1],
        .biased = given[1]->dims[1],
        .first = *(const int32_t *)given[6]->data,
    };
    edit(&job);
    return 0;
}

XLA_FFI_Error *toolkit_draw(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    XLA_FFI_Buffer **given = (XLA_FFI_Buffer **)frame->args.args;
    XLA_FFI_Buffer **made = (XLA_FFI_Buffer **)frame->rets.rets;
    Draw job = {
        .logits = given[0]->data,
        .given = given[1]->data,
        .found = made[0]->data,
        .ids = made[1]->data,
        .rows = given[0]->dims[0],
        .count = given[0]->dims[1],
    };
    return draw(&job) ? 0 : out_of_memory(frame);
}

XLA_FFI_Error *toolkit_attention(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    XLA_FFI_Buffer **given = (XLA_FFI_Buffer **)frame->args.args;
    XLA_FFI_Buffer *q = given[0], *keys = given[1];
    const float *settings = given[6]->data; /* scale, cap, window */
    int64_t both = keys->dims[0] / q->dims[0];
    Attention job = {
        .queries = q->data,
        .keys = keys->data,
        .values = given[2]->data,
        .start = given[3]->data,
        .source = given[4]->data,
        .shared = given[5]->data,
        .mixed = ((XLA_FFI_Buffer *)frame->rets.rets[0])->data,
        .batch = q->dims[0],
        .both = both,
        .group = q->dims[1] / both,
        .length = q->dims[2],
        .slots = keys->dims[1],
        .width = q->dims[3],
        .scale = settings[0],
        .cap = settings[1],
        .window = (int64_t)settings[2],
    };
    return attention(&job) ? 0 : out_of_memory(frame);
}
