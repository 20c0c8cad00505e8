package peers.flink;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.TimeDomain;
import org.apache.flink.streaming.api.TimerService;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.flink.util.OutputTag;

/**
 * The users of a minute: its count goes out once a second while it grows, and when its watermark
 * has come, after which its users are forgotten and frames are late.
 */
final class CountUsers
    extends KeyedProcessFunction<Long, Tuple2<Long, String>, Tuple2<Long, Long>> {
  private static final long serialVersionUID = 1;
  private static final long MINUTE_MILLISECONDS = 60_000;
  private static final long SECOND_MILLISECONDS = 1_000;

  private final OutputTag<Tuple2<Long, String>> late;
  private transient MapState<String, Boolean> users;
  private transient ValueState<Long> count;

  CountUsers(OutputTag<Tuple2<Long, String>> late) {
    this.late = late;
  }

  @Override
  public void open(OpenContext context) {
    users =
        getRuntimeContext()
            .getMapState(new MapStateDescriptor<>("users", Types.STRING, Types.BOOLEAN));
    count = getRuntimeContext().getState(new ValueStateDescriptor<>("count", Types.LONG));
  }

  @Override
  public void processElement(
      Tuple2<Long, String> frame, Context context, Collector<Tuple2<Long, Long>> out)
      throws Exception {
    TimerService timers = context.timerService();
    long end = frame.f0 * 1_000 + MINUTE_MILLISECONDS - 1;
    if (end <= timers.currentWatermark()) {
      context.output(late, frame);
      return;
    }
    if (!users.contains(frame.f1)) {
      users.put(frame.f1, true);
      Long before = count.value();
      count.update(before == null ? 1 : before + 1);
      if (before == null) {
        timers.registerEventTimeTimer(end);
      }
      long now = timers.currentProcessingTime();
      timers.registerProcessingTimeTimer(now - now % SECOND_MILLISECONDS + SECOND_MILLISECONDS);
    }
    peers.Run.counted();
  }

  @Override
  public void onTimer(long time, OnTimerContext context, Collector<Tuple2<Long, Long>> out)
      throws Exception {
    Long users = count.value();
    if (users != null) {
      out.collect(Tuple2.of(context.getCurrentKey(), users));
    }
    if (context.timeDomain() == TimeDomain.EVENT_TIME) {
      this.users.clear();
      count.clear();
    }
  }
}
