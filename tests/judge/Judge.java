import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.List;

import software.amazon.event.ruler.JsonRuleCompiler;
import software.amazon.event.ruler.Machine;

/** usage: Judge EVENTS.jsonl &lt;PATTERNS: what Event Ruler says, in the lines that pattern_verdicts prints. */
public class Judge {
    public static void main(String[] arguments) throws Exception {
        List<String> events = Files.readAllLines(Paths.get(arguments[0]), StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, false, "UTF-8");
        for (String pattern = in.readLine(); pattern != null; pattern = in.readLine()) {
            String wrong = JsonRuleCompiler.check(pattern, false);
            if (wrong != null) {
                out.println("error " + wrong.split("\n")[0]);
                continue;
            }
            Machine machine = new Machine();
            machine.addRule("rule", pattern);
            StringBuilder line = new StringBuilder();
            for (String event : events) {
                line.append(machine.rulesForJSONEvent(event).isEmpty() ? '0' : '1');
            }
            out.println(line);
        }
        out.flush();
    }
}
