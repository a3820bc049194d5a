#include "data/prepare.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "data/append_file.h"
#include "data/dataset_folder.h"
#include "data/hash_set.h"
#include "data/tokenizer.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/core/parallel.h"

namespace kiln::data {
namespace {

constexpr int64_t kBatchBytes = 1 << 20;  // of input, for every thread

void check_options(const PrepareOptions& options) {
  const auto check = [](bool good, const std::string& message, const std::string& hint) {
    if (!good) throw Error(ExitCode::usage, message, hint);
  };
  check(!options.read.inputs.empty(), "no input files", "give at least one .jsonl or .txt file");
  check(options.validation_fraction >= 0 && options.validation_fraction < 1,
        fmt::format("a validation fraction of {}", options.validation_fraction),
        "give a number from 0 to less than 1, such as 0.02");
  check(options.shard_tokens >= 1 && options.shard_tokens <= kShardMaxTokens,
        fmt::format("shards of {} tokens", options.shard_tokens),
        fmt::format("give 1 to {}", kShardMaxTokens));
  check(options.read.text_document_bytes >= 0,
        fmt::format("documents of {} bytes", options.read.text_document_bytes),
        "give 0 to leave text files whole, or the longest document that you want, such as 50000");
  check(options.journal_bytes >= 1, fmt::format("a journal entry every {} bytes", options.journal_bytes),
        "give at least 1");
}

// A document, ready to be written.
struct Document {
  ReadPosition position;
  int64_t record_bytes = 0, text_bytes = 0;
  DocumentHash hash{};
  std::vector<int32_t> tokens;  // none: the document has no text
  std::exception_ptr error;
};

Document encode(Record record, const DocumentReader& reader, const Tokenizer& tokenizer) {
  Document document;
  document.position = record.position;
  document.record_bytes = static_cast<int64_t>(record.bytes.size());
  try {
    const std::string text = reader.text_of(std::move(record));
    if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return document;
    const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
    document.hash = {hash.high64, hash.low64};
    document.text_bytes = static_cast<int64_t>(text.size());
    document.tokens.push_back(tokenizer.end_of_text());
    tokenizer.encode(text, document.tokens);
  } catch (...) {
    document.error = std::current_exception();
  }
  return document;
}

// Everything that is written, and the state that a journal entry holds. Each document goes to its split;
// while none was drawn for validation, the one that came nearest (of the smallest hash) waits, to be the one
// if it stays so.
class Writer {
 public:
  Writer(const PrepareOptions& options, DatasetFolder& folder, Journal journal,
         std::unique_ptr<Document> waiting)
      : options_(options),
        folder_(folder),
        journal_(std::move(journal)),
        train_(folder.train_layout(), journal_.train),
        validation_(folder.validation_layout(), journal_.validation),
        waiting_(std::move(waiting)) {
    if (options.keep_duplicates) return;
    hashes_.emplace(folder.hashes_path(), journal_.hashes * static_cast<int64_t>(sizeof(DocumentHash)));
    if (journal_.hashes == 0) return;
    const MappedFile file(folder.hashes_path());
    const auto* hash = reinterpret_cast<const DocumentHash*>(file.bytes().data());
    std::for_each(hash, hash + journal_.hashes, [this](const DocumentHash& h) { seen_.insert(h); });
  }

  void add(Document document) {
    if (document.tokens.empty()) {
      journal_.empty++;
      return;
    }
    if (hashes_ && !seen_.insert(document.hash)) {
      journal_.duplicates++;
      return;
    }
    if (hashes_) {
      hashes_->append(&document.hash, sizeof document.hash);
      journal_.hashes++;
    }
    if (options_.read.text_cut > 0) {
      write(document.position.offset >= options_.read.text_cut ? validation_ : train_, document);
    } else if (static_cast<double>(document.hash[0]) < options_.validation_fraction * 0x1p64) {
      write(validation_, document);
      release();
    } else if (options_.validation_fraction > 0 && validation_.state().documents == 0 &&
               (!waiting_ || document.hash[0] < waiting_->hash[0])) {
      release();
      waiting_ = std::make_unique<Document>(std::move(document));
    } else {
      write(train_, document);
    }
  }

  void save(const ReadPosition& position) {
    train_.sync();
    validation_.sync();
    if (hashes_) hashes_->sync();
    journal_.position = position;
    take_states();
    folder_.write(journal_);
  }

  // False when no document is left for training, or of a text that is cut for validation.
  bool finish() {
    if (waiting_) write(validation_, *waiting_);
    waiting_.reset();
    train_.close();
    validation_.close();
    take_states();
    return train_.state().documents > 0 && (options_.read.text_cut == 0 || validation_.state().documents > 0);
  }

  const Journal& journal() const { return journal_; }
  int64_t documents() const { return train_.state().documents + validation_.state().documents; }
  int64_t tokens() const { return train_.state().tokens + validation_.state().tokens; }

 private:
  static void write(SplitWriter& split, const Document& document) {
    split.add(document.tokens, document.text_bytes);
  }

  void release() {
    if (waiting_) write(train_, *waiting_);
    waiting_.reset();
  }

  void take_states() {
    journal_.train = train_.state();
    journal_.validation = validation_.state();
    journal_.waiting.reset();
    if (waiting_) journal_.waiting = {waiting_->position, waiting_->record_bytes, waiting_->hash[0]};
  }

  const PrepareOptions& options_;
  DatasetFolder& folder_;
  Journal journal_;
  SplitWriter train_, validation_;
  std::unique_ptr<Document> waiting_;
  HashSet seen_;
  std::optional<AppendFile> hashes_;  // seen_, on the disk
};

// Input that is wrong, as against a disk that is full: going on is of no use.
struct BrokenInput {
  std::exception_ptr error;
};

class Preparation {
 public:
  Preparation(const PrepareOptions& options, const Tokenizer& tokenizer, DatasetFolder& folder,
              const Journal& journal, const std::function<void(const PrepareProgress&)>& progress)
      : options_(options),
        tokenizer_(tokenizer),
        folder_(folder),
        progress_(progress),
        pool_(options.threads > 0 ? options.threads
                                  : std::max(1, static_cast<int>(std::thread::hardware_concurrency()))),
        reader_(options.read, journal.position),
        writer_(options, folder, journal, waiting_document(journal)) {}

  Journal run() {
    report();
    int64_t saved = reader_.bytes_done();
    const int64_t batch_bytes = std::min(kBatchBytes * pool_.size(), options_.journal_bytes);
    for (std::vector<Record> records; reader_.read(batch_bytes, records); records.clear()) {
      write(encode_all(records));
      report();
      if (reader_.bytes_total() >= 0 && reader_.bytes_done() - saved >= options_.journal_bytes) {
        writer_.save(reader_.position());
        saved = reader_.bytes_done();
      }
    }
    broken_input_if([&] { folder_.check_inputs(); });
    if (!writer_.finish()) broken_input_if([&] { refuse_emptiness(); });
    report();
    return writer_.journal();
  }

 private:
  template <class Check>
  static void broken_input_if(Check check) {  // it throws
    try {
      check();
    } catch (...) {
      throw BrokenInput{std::current_exception()};
    }
  }

  std::unique_ptr<Document> waiting_document(const Journal& journal) const {
    if (!journal.waiting) return {};
    Record record = reader_.record_at(journal.waiting->position, journal.waiting->record_bytes);
    return std::make_unique<Document>(encode(std::move(record), reader_, tokenizer_));
  }

  std::vector<Document> encode_all(std::vector<Record>& records) {
    std::vector<Document> documents(records.size());
    pool_.parallel_for(static_cast<int64_t>(records.size()), 1, [&](int64_t begin, int64_t end, int) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); i++) {
        documents[i] = encode(std::move(records[i]), reader_, tokenizer_);
      }
    });
    return documents;
  }

  void write(std::vector<Document> documents) {
    for (auto& document : documents) {
      if (document.error) throw BrokenInput{document.error};
      writer_.add(std::move(document));
    }
  }

  [[noreturn]] void refuse_emptiness() const {
    const int64_t documents = writer_.documents();
    throw Error(ExitCode::data,
                documents == 0 ? "the inputs hold no document with text"
                               : fmt::format("no document is left for {}: {} went to {}",
                                             to_validation() ? "training" : "validation", documents,
                                             to_validation() ? "validation" : "training"),
                documents == 0
                    ? "check the input files"
                    : "give more documents, cut long ones into several, or set the validation fraction to 0");
  }

  bool to_validation() const { return writer_.journal().train.documents == 0; }

  void report() const {
    if (progress_)
      progress_({reader_.bytes_done(), reader_.bytes_total(), writer_.documents(), writer_.tokens()});
  }

  const PrepareOptions& options_;
  const Tokenizer& tokenizer_;
  DatasetFolder& folder_;
  const std::function<void(const PrepareProgress&)>& progress_;
  ThreadPool pool_;
  DocumentReader reader_;
  Writer writer_;
};

PrepareSummary summary_of(const Journal& journal, const Tokenizer& tokenizer) {
  PrepareSummary summary;
  summary.train = journal.train;
  summary.validation = journal.validation;
  summary.duplicates = journal.duplicates;
  summary.empty = journal.empty;
  summary.tokenizer = tokenizer.name();
  summary.vocab = tokenizer.vocab();
  return summary;
}

}  // namespace

PrepareSummary prepare(const PrepareOptions& given,
                       const std::function<void(const PrepareProgress&)>& progress) {
  check_options(given);
  const auto tokenizer = open_tokenizer(given.tokenizer);
  const DocumentReader reader(given.read);  // refuses inputs before anything is made
  const TextCut cut = cut_single_text(given.read, given.validation_fraction);
  PrepareOptions options = given;
  options.read.text_cut = cut.at;
  DatasetFolder folder(options, *tokenizer);
  if (const auto found = folder.finished()) {
    Journal end;
    end.train = found->train;
    end.validation = found->validation;
    end.duplicates = found->duplicates;
    end.empty = found->empty;
    PrepareSummary summary = summary_of(end, *tokenizer);
    summary.cut = cut;
    summary.already_there = true;
    return summary;
  }
  try {
    const Journal start = folder.begin();
    const DocumentReader resumed(options.read, start.position);
    Journal end;
    {
      Preparation preparation(options, *tokenizer, folder, start, progress);
      end = preparation.run();
    }
    folder.finish(end);
    PrepareSummary summary = summary_of(end, *tokenizer);
    summary.cut = cut;
    summary.resumed_bytes = resumed.bytes_done();
    return summary;
  } catch (const BrokenInput& broken) {
    folder.discard();
    std::rethrow_exception(broken.error);
  } catch (const std::filesystem::filesystem_error& error) {
    throw Error(ExitCode::data,
                fmt::format("cannot use {}: {}", options.folder.string(), error.code().message()),
                "give a folder that may be written to");
  } catch (const Error& error) {
    if (error.code() != ExitCode::data || reader.bytes_total() < 0) throw;
    throw Error(error.code(), error.what(),
                fmt::format("{}{}the same command goes on where this one stopped", error.hint(),
                            error.hint().empty() ? "" : "; "));
  }
}

}  // namespace kiln::data
