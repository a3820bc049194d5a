// The files that byte-level BPE tokenizers come in. Readers take the content, and a name of the source for
// errors: Error(ExitCode::data) with what is broken, or of which other kind the tokenizer is.
#pragma once

#include <string>
#include <string_view>

#include "data/bpe.h"

namespace kiln::data {

// Hugging Face's tokenizer.json: model BPE, pre-tokenizer ByteLevel (with GPT-2's pattern), no normalizer.
BpeRules read_tokenizer_json(std::string_view content, const std::string& source);

// vocab.json and merges.txt, as GPT-2 was published; "<|endoftext|>" is in the vocabulary.
BpeRules read_vocab_and_merges(std::string_view vocab, const std::string& vocab_source,
                               std::string_view merges, const std::string& merges_source);

// A tiktoken rank file: a line holds base64(token), a space, its rank, which is its id. End-of-text, which is
// not in the file, gets the first id that is free. The file does not say which pattern it was made for; one
// that holds tokens which GPT-2's pattern never leaves in one piece is refused.
BpeRules read_tiktoken(std::string_view content, const std::string& source);

// tokenizer.json as Hugging Face's `tokenizers` reads it. Ranks are taken to be the order of `merges`.
std::string tokenizer_json(const BpeRules& rules);

}  // namespace kiln::data
