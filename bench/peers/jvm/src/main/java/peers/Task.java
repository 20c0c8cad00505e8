package peers;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.UUID;

/**
 * What the command line asks for, with the same flags as the peers in Python.
 *
 * @param frames end when so many are counted
 * @param out where the result goes, as JSON
 * @param name of the group; another launch with the same one goes on where this one was
 * @param state a directory that outlives the process, or null to keep nothing
 * @param counts the topic that the counts are published to, or null
 */
public record Task(
    String bootstrapServers,
    String topic,
    long frames,
    Path out,
    String name,
    Path state,
    String counts) {

  /** Reads the command line: pairs of a flag and its value. */
  public static Task of(String[] arguments) {
    Map<String, String> flags = new HashMap<>();
    for (int at = 0; at + 1 < arguments.length; at += 2) {
      flags.put(arguments[at], arguments[at + 1]);
    }
    String name = flags.get("--name");
    String state = flags.get("--state");
    return new Task(
        wanted(flags, "--bootstrap-servers"),
        wanted(flags, "--topic"),
        Long.parseLong(wanted(flags, "--frames")),
        Path.of(wanted(flags, "--out")),
        name != null ? name : "peer-" + UUID.randomUUID(),
        state != null ? Path.of(state) : null,
        flags.get("--counts"));
  }

  private static String wanted(Map<String, String> flags, String name) {
    String value = flags.get(name);
    if (value == null) {
      throw new IllegalArgumentException(name + " is missing");
    }
    return value;
  }
}
