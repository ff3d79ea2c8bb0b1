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

/* x, kernel and perhaps what the product is added to. */
static Product product_of(XLA_FFI_CallFrame *frame) {
    XLA_FFI_Buffer **given = (XLA_FFI_Buffer **)frame->args.args;
    return (Product){
        .x = given[0]->data,
        .kernel = given[1]->data,
        .onto = frame->args.size > 2 ? given[2]->data : 0,
        .y = ((XLA_FFI_Buffer *)frame->rets.rets[0])->data,
        .rows = given[0]->dims[0],
        .inputs = given[0]->dims[1],
        .outs = given[1]->dims[0],
    };
}

XLA_FFI_Error *toolkit_product(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    Product job = product_of(frame);
    return product(&job) ? 0 : out_of_memory(frame);
}

XLA_FFI_Error *toolkit_many_product(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    Product job = product_of(frame);
    return many_product(&job) ? 0 : out_of_memory(frame);
}

XLA_FFI_Error *toolkit_norm(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    XLA_FFI_Buffer **given = (XLA_FFI_Buffer **)frame->args.args;
    const float *settings = given[2]->data; /* epsilon, offset */
    Norm job = {
        .x = given[0]->data,
        .scale = given[1]->data,
        .y = ((XLA_FFI_Buffer *)frame->rets.rets[0])->data,
        .rows = given[0]->dims[0],
        .count = given[0]->dims[1],
        .epsilon = settings[0],
        .offset = settings[1],
    };
    norm(&job);
    return 0;
}

XLA_FFI_Error *toolkit_gate(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    XLA_FFI_Buffer *x = frame->args.args[0], *y = frame->rets.rets[0];
    Gate job = {.x = x->data, .y = y->data, .rows = y->dims[0], .count = y->dims[1]};
    gate(&job);
    return 0;
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
        .norm = made[1]->data,
        .entropy = made[2]->data,
        .rank = made[3]->data,
        .rows = given[0]->dims[0],
        .count = given[0]->dims[1],
    };
    moments(&job);
    return 0;
}

static Edit edit_of(XLA_FFI_CallFrame *frame) {
    XLA_FFI_Buffer **given = (XLA_FFI_Buffer **)frame->args.args;
    return (Edit){
        .logits = given[0]->data,
        .touched = given[1]->data,
        .ids = given[2]->data,
        .values = given[3]->data,
        .penalties = given[4]->data,
        .prompted = given[5]->data,
        .counts = given[6]->data,
        .node = given[7]->data,
        .first = given[8]->data,
        .allowed = given[9]->data,
        .early = given[10]->data,
        .stops = given[11]->data,
        .rows = given[0]->dims[0],
        .count = given[0]->dims[1],
        .nodes = given[8]->dims[0] - 1,
        .biased = given[2]->dims[1],
        .stopping = given[11]->dims[1],
    };
}

XLA_FFI_Error *toolkit_edit(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    Edit job = edit_of(frame);
    return edit(&job, ((XLA_FFI_Buffer *)frame->rets.rets[0])->data) ? 0 : out_of_memory(frame);
}

XLA_FFI_Error *toolkit_draw(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    XLA_FFI_Buffer **given = (XLA_FFI_Buffer **)frame->args.args;
    XLA_FFI_Buffer **made = (XLA_FFI_Buffer **)frame->rets.rets;
    Draw job = {
        .edit = edit_of(frame),
        .given = given[12]->data,
        .asked = given[13]->data,
        .found = made[0]->data,
        .ids = made[1]->data,
        .legal = made[2]->data,
        .leaders = made[3]->data,
        .leader_ids = made[4]->data,
        .asking = given[13]->dims[1],
        .leading = made[3]->dims[1],
    };
    return draw(&job) ? 0 : out_of_memory(frame);
}

XLA_FFI_Error *toolkit_count(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    XLA_FFI_Buffer **given = (XLA_FFI_Buffer **)frame->args.args;
    XLA_FFI_Buffer *counts = frame->rets.rets[0]; /* the memory of those that were given */
    count_tokens(counts->data, given[1]->data, given[2]->data, counts->dims[0], counts->dims[1]);
    return 0;
}

XLA_FFI_Error *toolkit_largest(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    XLA_FFI_Buffer **given = (XLA_FFI_Buffer **)frame->args.args;
    XLA_FFI_Buffer **made = (XLA_FFI_Buffer **)frame->rets.rets;
    Largest job = {
        .x = given[0]->data,
        .wanted = given[1]->data,
        .values = made[0]->data,
        .ids = made[1]->data,
        .rows = given[0]->dims[0],
        .count = given[0]->dims[1],
        .most = made[0]->dims[1],
    };
    largest(&job);
    return 0;
}

XLA_FFI_Error *toolkit_attention(XLA_FFI_CallFrame *frame) {
    if (asked_for_version(frame)) return 0;
    XLA_FFI_Buffer **given = (XLA_FFI_Buffer **)frame->args.args;
    XLA_FFI_Buffer **made = (XLA_FFI_Buffer **)frame->rets.rets;
    XLA_FFI_Buffer *tokens = given[0], *keys = made[1];
    const float *settings = given[8]->data; /* scale, cap, window */
    int64_t both = keys->dims[0] / tokens->dims[0];
    Attention job = {
        .tokens = tokens->data,
        .keys = keys->data, /* the memory of the cache that was given */
        .values = made[2]->data,
        .start = given[3]->data,
        .source = given[4]->data,
        .shared = given[5]->data,
        .cosine = given[6]->data,
        .sine = given[7]->data,
        .mixed = made[0]->data,
        .batch = tokens->dims[0],
        .both = both,
        .group = tokens->dims[2] / both - 2,
        .length = tokens->dims[1],
        .slots = keys->dims[1],
        .width = tokens->dims[3],
        .turning = given[6]->dims[2],
        .scale = settings[0],
        .cap = settings[1],
        .window = (int64_t)settings[2],
    };
    return attention(&job) ? 0 : out_of_memory(frame);
}
