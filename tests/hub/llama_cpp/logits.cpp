// The logits of every position of some tokens, as raw fp32 rows on standard output: logits MODEL.gguf TOKEN...
// Keys and values are kept in fp32, so that the sums alone may differ from archc's.
#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int argc, char ** argv) {
    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level >= GGML_LOG_LEVEL_WARN) fputs(text, stderr);
    }, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (model == nullptr) return 1;
    std::vector<llama_token> tokens;
    for (int i = 2; i < argc; i++) tokens.push_back(atoi(argv[i]));
    const int length = (int) tokens.size();
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = 512;
    params.n_threads = params.n_threads_batch = 1;
    params.type_k = params.type_v = GGML_TYPE_F32;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    llama_context * context = llama_init_from_model(model, params);
    if (context == nullptr) return 1;
    llama_batch batch = llama_batch_init(length, 0, 1);
    batch.n_tokens = length;
    for (int i = 0; i < length; i++) {
        batch.token[i] = tokens[i];
        batch.pos[i] = i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    if (llama_decode(context, batch) != 0) return 1;
    const size_t width = (size_t) llama_vocab_n_tokens(llama_model_get_vocab(model));
    for (int i = 0; i < length; i++) fwrite(llama_get_logits_ith(context, i), sizeof(float), width, stdout);
    return 0;
}
