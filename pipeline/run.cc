// The main path: from an archive in a store to a verified ONNX directory in a store. Read this
// first.

#include "pipeline/run.h"

#include "pipeline/output/publish.h"
#include "pipeline/plan.h"
#include "pipeline/source.h"
#include "pipeline/timed_observer.h"
#include "pipeline/verify/verify.h"

namespace onnxferry {

ExportReport run_export(const ExportOptions& options,
                        Stores& stores,
                        Workspace& workspace,
                        StageObserver& observer) {
  TimedObserver timed(observer);
  const auto output = workspace.scratch / "output";
  const ObjectUri destination = ObjectUri::parse(options.output_uri);
  Publisher publisher(stores.open(destination), destination, options);

  // Fetch. A redelivered request whose export is already published costs two small reads and ends
  // here.
  SourceIdentity source;
  std::optional<ExportReport> published;
  const LocalSource local = in_stage(Stage::kDownload, timed, [&](StageScope& scope) {
    source = identify_source(options, stores, scope);
    published = publisher.find_published(source, scope);
    return published ? LocalSource{} : fetch_source(options, stores, source, workspace, scope);
  });
  if (published) {
    published->stages = timed.timings();
    return *published;
  }

  // Unpack under limits. From here on nothing reads the network until upload, and no weight has
  // been read yet.
  const Checkpoint checkpoint = in_stage(Stage::kExtract, timed, [&](StageScope& scope) {
    return open_checkpoint(local, workspace, scope);
  });

  // Plan, then write. After the plan all names, inputs, outputs, sizes and offsets are fixed, and
  // nothing of the checkpoint is left unread; writing is the only pass over the weights, at disk
  // speed in bounded memory.
  ExportPlan plan;
  ExportReport report = in_stage(Stage::kExport, timed, [&](StageScope& scope) {
    plan = plan_export(checkpoint, options);
    require_scratch(workspace, plan.bytes(), "the exported files");
    return write_export(plan, checkpoint, options, output, scope);
  });
  if (!options.keep_weights) {
    discard_weights(local, checkpoint, source, workspace);
  }

  // An unverified model never becomes visible.
  in_stage(Stage::kVerify, timed, [&](StageScope& scope) {
    report.verification = verify(plan.verify, workspace.runtime, scope);
    for (const std::string& note : report.verification.notes) {
      report.warnings.push_back({"CHECK_LEFT_OUT", note});
    }
  });

  // Publish: claim, files, checksums, and last the manifest that makes them an export.
  in_stage(Stage::kUpload, timed, [&](StageScope& scope) {
    publisher.publish(output, source, report, scope);
  });
  // Nothing reads the weights any more; the next job of the same object may have them.
  if (options.keep_weights) {
    keep_weights(local, checkpoint, source, workspace);
  }
  report.stages = timed.timings();
  return report;
}

}  // namespace onnxferry
