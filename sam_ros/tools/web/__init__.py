"""``ros2 run sam_ros web``: a page to see the camera and the masks on it, and to click."""
