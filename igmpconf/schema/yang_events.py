"""The two namespaces of RFC 5277 as YANG: it has schemas only, and clients ask for modules.

The names are those that servers use; the text is ours.
"""

from __future__ import annotations

_HEAD = """module {name} {{
  yang-version 1.1;
  namespace "{namespace}";
  prefix {prefix};

  import ietf-yang-types {{
    prefix yang;
    reference "RFC 6991";
  }}

  organization "igmpconf";
  contact "the maintainers of igmpconf";
  description "{description}";
  reference "RFC 5277";

  revision {revision} {{
    description "First version.";
  }}
"""

_OPERATION = """
  rpc create-subscription {
    description "Have the notifications of a stream sent on this session.";
    input {
      leaf stream {
        type string;
        default "NETCONF";
        description "The stream.";
      }
      anydata filter {
        description "Subtrees, one of which a notification must have something of.";
      }
      leaf startTime {
        type yang:date-and-time;
        description "Replay what happened from here on; absent: nothing is replayed.";
      }
      leaf stopTime {
        type yang:date-and-time;
        description "End here; absent: with the session.  Needs startTime.";
      }
    }
  }
}
"""

_MANAGEMENT = """
  container netconf {
    config false;
    description "What the agent has for subscribers.";
    container streams {
      description "The event streams.";
      list stream {
        key "name";
        description "One stream.";
        leaf name {
          type string;
          description "What create-subscription calls it.";
        }
        leaf description {
          type string;
          mandatory true;
          description "What it carries.";
        }
        leaf replaySupport {
          type boolean;
          mandatory true;
          description "Whether past events can be had.";
        }
        leaf replayLogCreationTime {
          type yang:date-and-time;
          description "When the log of past events began.";
        }
        leaf replayLogAgedTime {
          type yang:date-and-time;
          description "Time of the last event that is no longer kept.";
        }
      }
    }
  }

  notification replayComplete {
    description "All past events were sent.";
  }

  notification notificationComplete {
    description "The stop time has come.";
  }
}
"""


def event_modules(revision: str) -> tuple[str, str]:
    """The texts of `notifications` and `nc-notifications`."""
    operation = _HEAD.format(
        name="notifications",
        namespace="urn:ietf:params:xml:ns:netconf:notification:1.0",
        prefix="ncEvent",
        description="How a client subscribes.",
        revision=revision,
    )
    management = _HEAD.format(
        name="nc-notifications",
        namespace="urn:ietf:params:xml:ns:netmod:notification",
        prefix="manageEvent",
        description="Which streams there are, and what ends a replay.",
        revision=revision,
    )
    return operation + _OPERATION, management + _MANAGEMENT
